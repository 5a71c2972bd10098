//! What may wait for somebody else's lock is read beside, and not waited for long.

use core::time::Duration;
use std::{
    sync::{
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
};

const PATIENCE: Duration = Duration::from_millis(100);
/// So many may hang at a time; then nobody is read so.
const HANGING_MAX: usize = 4;

static HANGING: AtomicUsize = AtomicUsize::new(0);

/// `None`: it hangs, or too many do already.
pub(super) fn within_patience<T: Send + 'static>(read: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    if HANGING_MAX <= HANGING.fetch_add(1, Ordering::Relaxed) {
        HANGING.fetch_sub(1, Ordering::Relaxed);
        return None;
    }
    let (answer, answered) = mpsc::channel();
    let work = move || {
        let answers = read();
        HANGING.fetch_sub(1, Ordering::Relaxed);
        // Late: nobody waits for it.
        answer.send(answers).ok();
    };
    if thread::Builder::new().name("healer-reads".to_owned()).stack_size(128 << 10).spawn(work).is_err() {
        HANGING.fetch_sub(1, Ordering::Relaxed);
        return None;
    }
    answered.recv_timeout(PATIENCE).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_hangs_is_waited_for_once_and_a_few_at_a_time() {
        assert!((0..100).any(|_| within_patience(|| 7) == Some(7)));
        let (free, hangs) = mpsc::channel::<()>();
        let hangs = std::sync::Arc::new(std::sync::Mutex::new(hangs));
        for _ in 0..HANGING_MAX {
            let hangs = std::sync::Arc::clone(&hangs);
            assert!(within_patience(move || hangs.lock().unwrap().recv().is_ok()).is_none());
        }
        assert_eq!(within_patience(|| 7), None, "no fifth thread");
        drop(free);
        let again = (0..600).any(|_| {
            thread::sleep(Duration::from_millis(50));
            within_patience(|| 7) == Some(7)
        });
        assert!(again, "they are through");
    }
}

//! Asks file systems that may hang beside the look: whoever does not answer at once is not waited for.

use core::time::Duration;
use std::{
    path::{Path, PathBuf},
    sync::mpsc,
    thread,
};

use rustix::fs::StatVfs;

const PATIENCE: Duration = Duration::from_millis(100);
/// So many may hang at a time; then nobody else of their kind is asked.
const HUNG_MAX: usize = 4;

type Ask = fn(&Path) -> rustix::io::Result<StatVfs>;

pub(super) struct Asker {
    ask: Ask,
    idle: Option<Helper>,
    hung: Vec<(PathBuf, Helper)>,
}

/// Ends once nobody asks it any more, and has its answer.
struct Helper {
    asks: mpsc::Sender<PathBuf>,
    answers: mpsc::Receiver<rustix::io::Result<StatVfs>>,
}

impl Default for Asker {
    fn default() -> Self {
        Self::with(|path| rustix::fs::statvfs(path))
    }
}

impl Asker {
    fn with(ask: Ask) -> Self {
        Self { ask, idle: None, hung: Vec::new() }
    }

    /// `None`: it is an error, or it hangs.
    pub(super) fn statvfs(&mut self, path: &Path) -> Option<StatVfs> {
        let still = |helper: &Helper| matches!(helper.answers.try_recv(), Err(mpsc::TryRecvError::Empty));
        self.hung.retain(|(_, helper)| still(helper));
        if HUNG_MAX <= self.hung.len() || self.hung.iter().any(|(point, _)| point == path) {
            return None;
        }
        let helper = self.idle.take().or_else(|| Helper::start(self.ask))?;
        helper.asks.send(path.to_owned()).ok()?;
        match helper.answers.recv_timeout(PATIENCE) {
            Ok(answer) => {
                self.idle = Some(helper);
                answer.ok()
            }
            Err(_) => {
                self.hung.push((path.to_owned(), helper));
                None
            }
        }
    }
}

impl Helper {
    fn start(ask: Ask) -> Option<Self> {
        let (asks, asked) = mpsc::channel::<PathBuf>();
        let (answer, answers) = mpsc::channel();
        let work = move || {
            for path in asked {
                if answer.send(ask(&path)).is_err() {
                    return;
                }
            }
        };
        thread::Builder::new().name("healer-statvfs".to_owned()).spawn(work).ok()?;
        Some(Self { asks, answers })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, MutexGuard};

    use super::*;
    use crate::clock;

    static DEAD: Mutex<()> = Mutex::new(());

    fn ask(path: &Path) -> rustix::io::Result<StatVfs> {
        let _held: Option<MutexGuard<'_, ()>> = path.starts_with("/dead").then(|| DEAD.lock().unwrap());
        rustix::fs::statvfs("/")
    }

    #[test]
    fn a_dead_one_is_waited_for_once_and_the_others_answer() {
        let mut asker = Asker::with(ask);
        let dead = DEAD.lock().unwrap();
        assert!(asker.statvfs(Path::new("/dead")).is_none());
        let began = clock::boot();
        assert!((0..1000).all(|_| asker.statvfs(Path::new("/dead")).is_none()));
        assert!(clock::boot().since(began) < PATIENCE * 50, "not one patience for each");
        assert!((0..3).any(|_| asker.statvfs(Path::new("/well")).is_some()));
        let more =
            (0..10).filter(|number| asker.statvfs(&PathBuf::from(format!("/dead/{number}"))).is_none());
        assert_eq!((more.count(), asker.hung.len()), (10, HUNG_MAX));
        assert!(asker.statvfs(Path::new("/well")).is_none(), "no fifth helper");
        drop(dead);
        let again = (0..600).any(|_| {
            thread::sleep(Duration::from_millis(50));
            asker.statvfs(Path::new("/dead")).is_some()
        });
        assert!(again, "it answers again");
    }
}

//! A victim of the live tests: AB-BA of two locks of parking_lot; with `served` a third thread waits for the network,
//! with `ticking` it sleeps a second at a time.

use std::{
    net::TcpListener,
    sync::{Arc, Barrier},
    thread,
    time::Duration,
};

use parking_lot::Mutex;

fn main() {
    match std::env::args().nth(1).as_deref() {
        Some("served") => {
            thread::spawn(|| TcpListener::bind("127.0.0.1:0").map(|listener| listener.accept()));
        }
        Some("ticking") => {
            thread::spawn(|| {
                loop {
                    thread::sleep(Duration::from_secs(1));
                }
            });
        }
        Some(_) | None => {}
    }
    let barrier = Arc::new(Barrier::new(2));
    let locks = [Arc::new(Mutex::new(1_u64)), Arc::new(Mutex::new(2_u64))];
    let threads = [0, 1].map(|first| {
        let (one, other, barrier) = (locks[first].clone(), locks[1 - first].clone(), barrier.clone());
        thread::spawn(move || {
            let one = one.lock();
            barrier.wait();
            *one + *other.lock()
        })
    });
    for thread in threads {
        thread.join().ok();
    }
}

//! Locks of Rust's standard library, really stuck; a thread in accept stays alive where the mode says so.
use std::net::TcpListener;
use std::sync::{Arc, Barrier, Mutex, RwLock, mpsc};
use std::{hint::black_box, thread, time::Duration};

static FIRST: Mutex<u64> = Mutex::new(1);
static SECOND: Mutex<u64> = Mutex::new(2);

struct Accounts {
    kept: u64,
    one: Mutex<u64>,
    two: Mutex<u64>,
}

#[inline(never)]
fn transfer(from: &Mutex<u64>, to: &Mutex<u64>) {
    let mut from = from.lock().unwrap();
    *to.lock().unwrap() += *from;
    *from = 0;
}

fn serve() {
    thread::spawn(|| TcpListener::bind("127.0.0.1:0").unwrap().accept());
}

fn main() {
    let mode = std::env::args().nth(1).unwrap();
    let barrier = Arc::new(Barrier::new(2));
    let mut threads = Vec::new();
    match mode.as_str() {
        "mutex" | "mutex_served" | "mutex_ticking" => {
            if mode == "mutex_served" { serve(); }
            if mode == "mutex_ticking" { thread::spawn(|| loop { thread::sleep(Duration::from_millis(30)); }); }
            let locks = [Arc::new(Mutex::new(1_u64)), Arc::new(Mutex::new(2_u64))];
            for i in 0..2 {
                let (one, other, barrier) = (locks[i].clone(), locks[1 - i].clone(), barrier.clone());
                threads.push(thread::spawn(move || {
                    let one = one.lock().unwrap();
                    barrier.wait();
                    black_box(*one + *other.lock().unwrap());
                }));
            }
        }
        "rwlock_served" => {
            serve();
            let locks = [Arc::new(RwLock::new(1_u64)), Arc::new(RwLock::new(2_u64))];
            for i in 0..2 {
                let (one, other, barrier) = (locks[i].clone(), locks[1 - i].clone(), barrier.clone());
                threads.push(thread::spawn(move || {
                    let one = one.write().unwrap();
                    barrier.wait();
                    black_box(*one + *other.write().unwrap());
                }));
            }
        }
        "philosophers" => {
            serve();
            let forks: Arc<Vec<Mutex<u64>>> = Arc::new((0..5).map(Mutex::new).collect());
            let barrier = Arc::new(Barrier::new(5));
            for i in 0..5 {
                let (forks, barrier) = (forks.clone(), barrier.clone());
                threads.push(thread::spawn(move || {
                    let left = forks[i].lock().unwrap();
                    barrier.wait();
                    black_box(*left + *forks[(i + 1) % 5].lock().unwrap());
                }));
            }
        }
        "static" => {
            for (one, other) in [(&FIRST, &SECOND), (&SECOND, &FIRST)] {
                let barrier = barrier.clone();
                threads.push(thread::spawn(move || {
                    let one = one.lock().unwrap();
                    barrier.wait();
                    black_box(*one + *other.lock().unwrap());
                }));
            }
        }
        "pool" => {
            let (sender, receiver) = mpsc::channel::<u64>();
            let receiver = Arc::new(Mutex::new(receiver));
            for _ in 0..6 {
                let receiver = receiver.clone();
                thread::spawn(move || while receiver.lock().unwrap().recv().is_ok() {});
            }
            threads.push(thread::spawn(move || {
                let _accepted = TcpListener::bind("127.0.0.1:0").unwrap().accept();
                drop(sender);
            }));
        }
        // A slow holder that knows its lock by what it lies in; two wait behind it, the second has its address as an argument.
        "transfer" | "transfer_ticking" => {
            let pause = Duration::from_millis(if mode == "transfer" { 10_000 } else { 30 });
            let accounts = Arc::new(Accounts { kept: 3, one: Mutex::new(1), two: Mutex::new(2) });
            let held = accounts.clone();
            threads.push(thread::spawn(move || {
                let mut two = held.two.lock().unwrap();
                loop {
                    thread::sleep(pause);
                    *two += held.kept;
                }
            }));
            for _ in 0..2 {
                thread::sleep(Duration::from_millis(100));
                let accounts = accounts.clone();
                threads.push(thread::spawn(move || transfer(&accounts.one, &accounts.two)));
            }
        }
        // The first holds A and waits for B; the second only refers to B and waits for A; the third owns B and is slow.
        "decoy" | "decoy_ticking" => {
            let ticking = mode == "decoy_ticking";
            let (a, b) = (Arc::new(Mutex::new(1_u64)), Arc::new(Mutex::new(2_u64)));
            let owned = b.clone();
            threads.push(thread::spawn(move || {
                let owned = owned.lock().unwrap();
                while *owned != 77 {
                    thread::sleep(Duration::from_millis(if ticking { 50 } else { 100_000_000 }));
                }
            }));
            thread::sleep(Duration::from_millis(200));
            let (one, other) = (a.clone(), b.clone());
            threads.push(thread::spawn(move || {
                let one = one.lock().unwrap();
                black_box(*one + *other.lock().unwrap());
            }));
            thread::sleep(Duration::from_millis(200));
            threads.push(thread::spawn(move || {
                let kept: &Mutex<u64> = black_box(&b);
                let one = a.lock().unwrap();
                black_box(*one + *kept.lock().unwrap());
            }));
        }
        _ => std::process::exit(2),
    }
    for thread in threads {
        let _ended = thread.join();
    }
}

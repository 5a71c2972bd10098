//! Locks of Rust's standard library, really stuck; a thread in accept stays alive where the mode says so.
use std::net::TcpListener;
use std::sync::{Arc, Barrier, Condvar, Mutex, RwLock, mpsc};
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

#[inline(never)]
fn feed(stages: &Arc<[(Mutex<u64>, Condvar); 2]>) {
    stages.iter().for_each(|(_, more)| more.notify_one());
}

#[inline(never)]
fn notify(pair: &Arc<(Mutex<u64>, Condvar)>) {
    pair.1.notify_one();
}

fn go_on<T>(kept: &T, is_ticking: bool) {
    if !is_ticking { let _accepted = TcpListener::bind("127.0.0.1:0").unwrap().accept(); }
    loop {
        thread::sleep(Duration::from_millis(30));
        black_box(kept);
    }
}

fn serve() {
    thread::spawn(|| TcpListener::bind("127.0.0.1:0").unwrap().accept());
}

fn main() {
    let mode = std::env::args().nth(1).unwrap();
    let is_ticking = mode.ends_with("_ticking");
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
        // Each thread is written out, as in most programs; main joins them and has nothing to do with the locks.
        "crosswise_ticking" => {
            thread::spawn(|| loop { thread::sleep(Duration::from_secs(1)); });
            let (a, b) = (Arc::new(Mutex::new(1_u64)), Arc::new(Mutex::new(2_u64)));
            let (a_too, b_too) = (a.clone(), b.clone());
            threads.push(thread::spawn(move || {
                let mut one = a.lock().unwrap();
                thread::sleep(Duration::from_millis(200));
                *one += *b.lock().unwrap();
            }));
            threads.push(thread::spawn(move || {
                let mut two = b_too.lock().unwrap();
                thread::sleep(Duration::from_millis(200));
                *two += *a_too.lock().unwrap();
            }));
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
        // Main joins who rests; who could wake that one rests in accept, or ticks.
        "joined" | "joined_ticking" => {
            let (sender, receiver) = mpsc::channel::<u64>();
            threads.push(thread::spawn(move || receiver.iter().for_each(|job| { black_box(job); })));
            thread::spawn(move || go_on(&sender, is_ticking));
        }
        // The same with a condition that was notified twice: its word is that of a contended mutex. Who could notify it
        // knows where it is written where it lies.
        "notified" | "notified_ticking" => {
            let pair = Arc::new((Mutex::new(0_u64), Condvar::new()));
            let (waits, notifies) = (pair.clone(), Box::new(pair.clone()));
            threads.push(thread::spawn(move || {
                let mut seen = waits.0.lock().unwrap();
                while *seen < 77 {
                    *seen += 1;
                    seen = waits.1.wait(seen).unwrap();
                }
            }));
            thread::spawn(move || {
                for _ in 0..2 {
                    thread::sleep(Duration::from_millis(100));
                    notify(&notifies);
                }
                go_on(&notifies, is_ticking);
            });
            for thread in threads.drain(..) { let _ended = thread.join(); }
            black_box(pair);
        }
        // Two stages that rest at conditions which were notified twice, in what both of them know. Who feeds them knows where
        // that is written.
        "stages" | "stages_ticking" => {
            let stages = Arc::new([0; 2].map(|_| (Mutex::new(0_u64), Condvar::new())));
            for i in 0..2 {
                let stages = stages.clone();
                threads.push(thread::spawn(move || {
                    let (jobs, more) = &stages[i];
                    let mut seen = jobs.lock().unwrap();
                    while *seen < 77 {
                        *seen += 1;
                        seen = more.wait(seen).unwrap();
                    }
                    black_box(&stages);
                }));
            }
            let feeds = Box::new(stages);
            thread::spawn(move || {
                for _ in 0..2 {
                    thread::sleep(Duration::from_millis(100));
                    feed(&feeds);
                }
                go_on(&feeds, is_ticking);
            });
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

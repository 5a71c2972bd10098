//! A TCP server as server.py is one, and a thread per connection. `lock` reads one lock and wants to write the other.
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{RwLock, atomic::{AtomicUsize, Ordering}};
use std::{thread, time::Duration};

static LOCKS: [RwLock<u64>; 2] = [RwLock::new(0), RwLock::new(0)];
static ASKED: AtomicUsize = AtomicUsize::new(0);

fn serve(mut stream: TcpStream) {
    let lines = BufReader::new(stream.try_clone().unwrap()).lines();
    for line in lines.map_while(Result::ok) {
        if line.starts_with("lock") {
            let first = ASKED.fetch_add(1, Ordering::Relaxed) % 2;
            let one = LOCKS[first].read().unwrap();
            thread::sleep(Duration::from_millis(500));
            *LOCKS[1 - first].write().unwrap() += *one;
        }
        stream.write_all(b"done\n").unwrap();
    }
}

fn main() {
    let port = std::env::args().nth(2).unwrap().parse::<u16>().unwrap();
    for stream in TcpListener::bind(("127.0.0.1", port)).unwrap().incoming().flatten() {
        thread::spawn(move || serve(stream));
    }
}

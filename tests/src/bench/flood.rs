//! Records through the bulk ring: sent by one thread as fast as it can make system calls, read by the
//! agent's own reader on another CPU, decoded.

use std::{sync::mpsc, thread, time::Duration};

use anyhow::{Context as _, anyhow};
use healer_common::event::{
    Event, Record,
    process_exit::{ProcessEnd, ProcessExit},
};
use healer_userspace::{clock, sense};

use super::{
    args::Args,
    figure::Figure,
    floor::Flood,
    load, meter, say,
    stall::{Stall, Stalls},
};

/// Between looks at the clock.
const BATCH: u64 = 500;
/// What must pass without loss.
const PACED: u64 = 1_000_000;
/// A pace at which the reader has to change between its cadences.
const SLOWER: u64 = 400_000;

/// # Errors
/// The bench's kernel object cannot be loaded.
pub fn measure(args: &Args) -> anyhow::Result<Vec<Figure>> {
    say("ring: flood");
    let time = Duration::from_millis(if args.quick { 500 } else { 3000 });
    let pace = Some(PACED * 21 / 20);
    let short = run("flood", pace, time)?;
    let long = run("flood_long", pace, time)?;
    let slower = run("flood_long", Some(SLOWER), time)?;
    let free = run("flood", None, time)?;
    let size = size_of::<Record<ProcessEnd>>();
    let long_size = size_of::<Record<ProcessExit>>();
    Ok(vec![
        Figure::new("ring: records sent, paced", short.rate(), "records/s")
            .at_least(PACED as f64)
            .remark(format!("ends of {size} bytes each; sent by one thread, read and decoded by another")),
        Figure::new("ring: lost of these", short.lost as f64, "records").at_most(0.0).remark(short.remark()),
        Figure::new("ring: lost of as many with arguments", long.lost as f64, "records")
            .remark(format!("{long_size} bytes each; {}", long.remark())),
        Figure::new("ring: lost of 400,000/s with arguments", slower.lost as f64, "records")
            .remark(slower.remark()),
        Figure::new("ring: records read, flat out", free.read as f64 / free.time.as_secs_f64(), "records/s")
            .remark(format!(
                "lost {:.2} % of {:.2} M/s sent; the reader used {:.0} % of a core",
                100.0 * free.lost as f64 / free.sent.max(1) as f64,
                free.rate() / 1e6,
                100.0 * free.reader_share
            )),
    ])
}

struct Run {
    sent: u64,
    read: u64,
    lost: u64,
    time: Duration,
    reader_share: f64,
    stall: Stall,
}

impl Run {
    fn rate(&self) -> f64 {
        self.sent as f64 / self.time.as_secs_f64()
    }

    fn remark(&self) -> String {
        format!(
            "of {}; the reader has the agent's own priority, used {:.0} % of a core, and stayed away for {:.2} ms at \
             most, {:.2} of which it waited for its CPU",
            self.sent,
            100.0 * self.reader_share,
            1e3 * self.stall.time.as_secs_f64(),
            1e3 * self.stall.queued.as_secs_f64(),
        )
    }
}

fn run(program: &str, per_second: Option<u64>, time: Duration) -> anyhow::Result<Run> {
    let (tell_id, its_id) = mpsc::channel();
    let (start, started) = mpsc::channel();
    let sender = thread::spawn(move || {
        load::pin(Some(1));
        tell_id.send(rustix::thread::gettid()).ok();
        // Nobody starts it: the flood could not be attached.
        started.recv().ok().map(|()| send(per_second, time))
    });
    let thread = its_id.recv().context("start the sender")?;
    let mut flood = Flood::attach(program, thread.as_raw_nonzero().get().cast_unsigned())?;
    load::pin(Some(0));
    sense::ask_for_short_turns().context("ask for the agent's turns")?;
    let outcome = read(&mut flood, || start.send(()).is_ok(), || sender.is_finished());
    load::pin(None);
    let (read, reader_time, stall) = outcome?;
    let time = sender.join().map_err(|_| anyhow!("the sender failed"))?.context("never started")?;
    let lost = flood.lost()?;
    let reader_share = reader_time.as_secs_f64() / time.as_secs_f64();
    Ok(Run { sent: read + lost, read, lost, time, reader_share, stall })
}

/// Gives the time it took.
fn send(per_second: Option<u64>, time: Duration) -> Duration {
    let start = clock::boot();
    let mut calls = 0;
    loop {
        for _ in 0..BATCH {
            std::hint::black_box(rustix::process::getppid());
        }
        calls += BATCH;
        let due =
            per_second.map_or(Duration::ZERO, |rate| Duration::from_nanos(calls * 1_000_000_000 / rate));
        while clock::boot().since(start) < due {
            std::hint::spin_loop();
        }
        let past = clock::boot().since(start);
        if time <= past {
            return past;
        }
    }
}

/// Reads until the sender is done and the rings are empty; gives the records, the CPU time and the longest stay away.
fn read(
    flood: &mut Flood,
    start: impl FnOnce() -> bool,
    is_done: impl Fn() -> bool,
) -> anyhow::Result<(u64, Duration, Stall)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut sound = 0;
    let before = meter::own_thread();
    let mut stalls = Stalls::begin();
    start();
    runtime.block_on(async {
        loop {
            let was_done = is_done();
            let all = flood.rings.drain(|record| sound += u64::from(Event::decode(record).is_ok()));
            if !was_done {
                stalls.pass_ended();
            } else if all == 0 {
                return Ok::<_, anyhow::Error>(());
            }
            tokio::time::timeout(Duration::from_millis(100), flood.rings.readable()).await.ok();
        }
    })?;
    Ok((sound, meter::own_thread() - before, stalls.longest()))
}

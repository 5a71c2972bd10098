//! The cost table: every load without anything, with empty programs, with healer, in turn.

use std::{collections::BTreeMap, thread, time::Duration};

use serde::{Deserialize, Serialize};

use super::{
    agent::Agent,
    args::Args,
    floor::Floor,
    load::{self, Kind, LOADS, Load, servers::Servers},
    meter,
    pairs::{self, Ratio},
    say,
};

/// After the agent is ready: it has met everybody, and sleeps.
const SETTLE: Duration = Duration::from_millis(500);

/// A row of the table.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Row {
    pub load: String,
    pub what: String,
    pub programs: String,
    /// ns per operation without anything: wall time of micro loads, the server's CPU time of requests.
    pub bare_ns: f64,
    pub healer: Ratio,
    /// Empty programs on the same hooks.
    pub floor: Option<Ratio>,
    /// What the machine does by itself: see [`pairs::control`].
    pub control: Option<Ratio>,
    pub aim: f64,
}

impl Row {
    /// Whether the aim is reached, or missed by no more than the machine's own noise.
    #[must_use]
    pub fn verdict(&self) -> &'static str {
        let noise = self.control.map_or(1.0, |control| control.highest.max(1.0));
        if self.healer.median <= self.aim {
            "ok"
        } else if self.healer.median <= self.aim * noise {
            "ok within noise"
        } else {
            "MISSED"
        }
    }
}

/// What was seen besides.
#[derive(Clone, Debug, Default)]
pub struct Table {
    pub rows: Vec<Row>,
    pub to_ready: Vec<Duration>,
    /// Share of a core that the agent used while the loads ran, one per pair.
    pub agent_share: Vec<f64>,
    /// Probes without an empty twin in the floor.
    pub without_twin: Vec<&'static str>,
    pub not_measured: Vec<String>,
}

/// ns per operation, one value per run, by load.
type Series = BTreeMap<&'static str, Vec<f64>>;

/// Bare runs stand on both sides of every other one: `bare[2i]`, floor, `bare[2i + 1]`, healer, `bare[2i + 2]`.
#[derive(Default)]
struct Runs {
    bare: Series,
    floor: Series,
    healer: Series,
}

/// Whether `--only` leaves any load.
#[must_use]
pub fn is_wanted(args: &Args) -> bool {
    LOADS.iter().any(|load| wants(args, load))
}

fn wants(args: &Args, load: &Load) -> bool {
    args.wants(load.name) || args.only.iter().any(|only| only == "cost")
}

/// Bare, floor, bare, healer, bare, floor, … bare.
///
/// # Errors
/// healer does not start.
pub fn measure(args: &Args) -> anyhow::Result<Table> {
    let mut table = Table::default();
    let mut bench = Bench::new(args, &mut table);
    let mut runs = Runs::default();
    for pair in 1..=args.pairs() {
        say(&format!("cost: pair {pair} of {}", args.pairs()));
        keep(&mut runs.bare, bench.run());
        if let Some(floor) = attach_floor(&mut table) {
            keep(&mut runs.floor, bench.run());
            drop(floor);
        }
        keep(&mut runs.bare, bench.run());
        keep(&mut runs.healer, with_healer(&mut bench, &mut table)?);
    }
    keep(&mut runs.bare, bench.run());
    table.rows = bench.loads.iter().filter_map(|load| row(load, &runs)).collect();
    table.not_measured.extend(bench.trouble.into_values());
    Ok(table)
}

fn attach_floor(table: &mut Table) -> Option<Floor> {
    match Floor::attach() {
        Ok(floor) => {
            table.without_twin.clone_from(&floor.without_twin);
            Some(floor)
        }
        Err(error) => {
            table.not_measured = vec![format!("empty programs: {error:#}")];
            None
        }
    }
}

fn with_healer(bench: &mut Bench, table: &mut Table) -> anyhow::Result<BTreeMap<&'static str, f64>> {
    let agent = Agent::start_sampled()?;
    table.to_ready.push(agent.to_ready);
    thread::sleep(SETTLE);
    let (start, before) = (healer_userspace::clock::boot(), meter::usage(agent.pid())?);
    let values = bench.run();
    let time = healer_userspace::clock::boot().since(start);
    let after = meter::usage(agent.pid())?;
    table.agent_share.push((after.cpu.saturating_sub(before.cpu)).as_secs_f64() / time.as_secs_f64());
    Ok(values)
}

fn row(load: &Load, runs: &Runs) -> Option<Row> {
    let series = |of: &Series| of.get(load.name).cloned().unwrap_or_default();
    let bare = series(&runs.bare);
    Some(Row {
        load: load.name.to_owned(),
        what: load.what.to_owned(),
        programs: load.programs.to_owned(),
        bare_ns: pairs::median(&pairs::sorted(bare.iter().copied()))?,
        healer: pairs::compared(bare.get(1..)?, &series(&runs.healer))?,
        floor: pairs::compared(&bare, &series(&runs.floor)),
        control: pairs::control(&bare),
        aim: load.aim,
    })
}

fn keep(series: &mut Series, values: BTreeMap<&'static str, f64>) {
    for (name, value) in values {
        series.entry(name).or_default().push(value);
    }
}

struct Bench {
    loads: Vec<&'static Load>,
    servers: Option<Servers>,
    millis: u64,
    trouble: BTreeMap<&'static str, String>,
}

impl Bench {
    fn new(args: &Args, table: &mut Table) -> Self {
        let mut loads: Vec<_> = LOADS.iter().filter(|load| wants(args, load)).collect();
        let mut servers = None;
        if loads.iter().any(|load| matches!(load.kind, Kind::Server(_))) {
            match Servers::start() {
                Ok(started) => servers = Some(started),
                Err(error) => {
                    table.not_measured.push(format!("servers: {error:#}"));
                    loads.retain(|load| matches!(load.kind, Kind::Micro { .. }));
                }
            }
        }
        Self { loads, servers, millis: args.micro_millis(), trouble: BTreeMap::new() }
    }

    /// Every load once.
    fn run(&mut self) -> BTreeMap<&'static str, f64> {
        let mut values = BTreeMap::new();
        for load in &self.loads {
            let value = match (load.kind, &self.servers) {
                (Kind::Micro { .. }, _) => load::run_apart(load.name, self.millis),
                (Kind::Server(request), Some(servers)) => servers.measure(request),
                (Kind::Server(_), None) => continue,
            };
            match value {
                Ok(value) => {
                    values.insert(load.name, value);
                }
                Err(error) => {
                    self.trouble.insert(load.name, format!("{}: {error:#}", load.name));
                }
            }
        }
        self.loads.retain(|load| !self.trouble.contains_key(load.name));
        values
    }
}

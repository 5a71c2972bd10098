//! Puts the line together, says `ready`, and takes it apart again.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    fs::File,
    net::SocketAddr,
    path::Path,
    process::ExitCode,
    rc::Rc,
    sync::Arc,
};

use anyhow::Context as _;
use tokio::sync::mpsc;

use super::{
    Agent, Options,
    captures::Captures,
    fail_point::FailPoint,
    flows, give_back,
    housekeeping::Files,
    last_policies, levels,
    looks::{self, Look},
    malformed::Malformed,
    memory,
    probes::Probes,
    taps::Taps,
    waits,
    wakes::{Inbox, Wakes},
    work,
};
use crate::{
    action::{
        Hands,
        host::{evidence::Evidence, linux::Linux},
        lacks,
    },
    capabilities::{self, Capability},
    clock,
    config::{self, FromCluster, Loaded, Problems},
    control,
    engine::{Engine, detect, policy::choose, report::Report},
    identity::{Identity, roots::Roots},
    kubernetes::Cluster,
    report::{
        Reporter, http, log,
        scores::Scores,
        view::{self, Sensor},
        wall::{Now, ReadClock, rfc3339},
        webhook::Webhook,
    },
    runtimes::Owners,
    sense::{self, Lost, Sense, capture::Sources, poll::memory::Trigger},
    store::{ClockFacts, Store, StoreError, Work, row::Moment, worker::StoreHandle},
    supervise::server::Supervisors,
};

/// Why the agent did not start; the caller chooses the exit code.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A policy or configuration file: every problem with line and column.
    #[error("{0}")]
    Policy(Problems),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{0:#}")]
    Other(#[from] anyhow::Error),
}

/// Runs the agent until it is told to stop.
///
/// # Errors
/// Bad policies, a state directory that cannot be used, a port in use, a broken event loop.
pub fn run(options: Options) -> Result<ExitCode, StartError> {
    give_back::few_heaps();
    crate::nofile::raise();
    let loaded = config::load(&options.sources, &detect::is_built).map_err(StartError::Policy)?;
    let options = with_configured(options, &loaded);
    let (loaded, from_cluster) = with_last_policies(&options, loaded)?;
    log::init(options.log, read_clock())?;
    warn_of(&loaded);
    for lacking in capabilities::missing() {
        tracing::warn!("{}", lacking.words());
    }
    if let Err(error) = sense::ask_for_short_turns() {
        tracing::debug!("no short turns: {error}");
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(8)
        .build()
        .context("make the event loop")?;
    runtime.block_on(tokio::task::LocalSet::new().run_until(async {
        let (mut agent, mut wakes) = assemble(options, loaded, from_cluster).await?;
        let ended = agent.live(&mut wakes).await?;
        agent.store.close()?;
        Ok(ended)
    }))
}

/// What stops no load: what a policy asks for and this machine cannot do, too.
pub(super) fn warn_of(loaded: &config::Loaded) {
    let here = lacks::Here::of(&loaded.agent.kubernetes);
    let cannot = loaded.cannot(&|rung| lacks::lacks(rung, here));
    let unheard = if here.in_cluster { &[][..] } else { &loaded.asking };
    for warning in loaded.warnings.iter().chain(&cannot).chain(unheard) {
        tracing::warn!("{warning}");
    }
}

/// The command line wins over the administrator's file, that over the defaults.
fn with_configured(mut options: Options, loaded: &Loaded) -> Options {
    if let Some(dir) = loaded.agent.state_dir.clone().filter(|_| !options.state_dir_given) {
        options.state_dir = dir;
    }
    let default = SocketAddr::from(([127, 0, 0, 1], 9469));
    options.listen = Some(options.listen.or(loaded.agent.listen).unwrap_or(default));
    options
}

/// What the cluster had last stays in force until it tells more.
fn with_last_policies(options: &Options, loaded: Loaded) -> Result<(Loaded, Vec<FromCluster>), StartError> {
    if !loaded.agent.kubernetes.policies {
        return Ok((loaded, Vec::new()));
    }
    let last = last_policies::recall(&options.state_dir);
    let loaded = config::load_with(&options.sources, &last, &detect::is_built).map_err(StartError::Policy)?;
    Ok((loaded, last))
}

async fn assemble(
    mut options: Options,
    loaded: Loaded,
    from_cluster: Vec<FromCluster>,
) -> Result<(Agent, Wakes), StartError> {
    let fail_point = FailPoint::from_environment()?;
    let boot_id = clock::boot_id().context("read the boot id")?;
    let now = clock::boot();
    let facts = ClockFacts { boot_id: boot_id.clone(), now_boot: now, now_wall: clock::wall() };
    let (store, recovered) = Store::open(&options.state_dir, facts)?;
    let notes = store.notes().to_vec();
    let lacking = capabilities::missing();
    // Before any other thread: rights are each thread's own, and some are given up here.
    let mut sense = Sense::start(&sense::Settings {
        best: options.sense_rung,
        gives_up_rights: true,
        ..sense::Settings::default()
    });

    let (store_sender, store_events) = mpsc::unbounded_channel();
    let answer = Arc::new(move |event| drop(store_sender.send(event)));
    let moment = Box::new(|| Moment { boot: clock::boot(), wall: clock::wall() });
    let store = StoreHandle::start(store, moment, answer).context("start the store's thread")?;

    let outgoing: Rc<RefCell<Vec<Work>>> = Rc::default();
    let mut reporter = reporter(&outgoing, boot_id);
    reporter.remember_acts(&recovered.open);
    match Scores::of_audit(&options.state_dir) {
        Ok(scores) => reporter.shared.update(|view| view.scores = scores.nobody_follows()),
        Err(error) => tracing::warn!("scores of earlier runs are not known: {error}"),
    }
    if let Some(target) = loaded.agent.webhook.clone() {
        let by_kernel = || rustix::system::uname().nodename().to_string_lossy().into_owned();
        let node = loaded.agent.kubernetes.given_node().unwrap_or_else(by_kernel);
        reporter.set_webhook(Webhook::start(target, reporter.metrics.clone(), node));
    }

    let (told_sender, told) = mpsc::channel(256);
    let supervisors =
        Supervisors::listen(&options.state_dir, told_sender).context("open the supervisors' socket")?;
    let (learnt_sender, learnt) = mpsc::channel(256);
    let owners = Owners::start(&loaded.agent.runtimes, &learnt_sender);
    let host = Linux::new(supervisors.clone(), loaded.policies.protect.clone());
    let evidence = Evidence::new(&options.state_dir, Sources::of(&loaded.agent.runtimes.systemd));
    let cluster = Cluster::new(&loaded.agent.kubernetes);
    if loaded.agent.kubernetes.events {
        reporter.set_events(cluster.tell_events());
    }
    let (policies_sender, policies) = mpsc::channel(4);
    if loaded.agent.kubernetes.policies {
        reporter.set_statuses(cluster.follow_policies(policies_sender));
    }
    let kubelet = cluster.kubelet(learnt_sender);
    let host = Arc::new(
        host.with_owners(owners.clone()).with_cluster(cluster.clone()).with_evidence(evidence.clone()),
    );
    let (results_sender, results) = mpsc::channel(64);
    let (answers, answers_in) = mpsc::unbounded_channel();
    let (listen, orders) = serve(&options, &reporter).await?;
    options.listen = listen;

    let (waits_watch, waits) =
        waits::start(sense.take_task_scan()).context("start the thread that scans the tasks")?;
    let (work_watch, looks) = work::start().context("start the thread that looks at sockets and CPU")?;
    let alarm = Trigger::open(Path::new("/proc"));
    let (memory_watch, memory_look, memory) = memory::start(sense.take_reclaim(), &alarm);
    let (level_watch, level_look, levels) = levels::start();
    let (trouble, flow_look, flows) = flows::start();
    let all: Vec<Box<dyn Look>> = vec![Box::new(memory_look), Box::new(level_look), Box::new(flow_look)];
    looks::start(all, alarm).context("start the thread that looks at memory, limits and connections")?;
    let inbox = Inbox {
        store: store_events,
        results,
        told,
        learnt,
        answers: answers_in,
        waits,
        work: looks,
        memory,
        levels,
        flows,
        policies,
        orders,
    };
    let wakes = Wakes::new(inbox, options.duration).context("listen for signals")?;
    let recording = options.record.as_ref().map(File::create).transpose().context("create the recording")?;
    reporter.metrics.capabilities(&lacking);
    let mut agent = Agent {
        sense,
        lacking,
        identity: Identity::new(Roots::default()),
        engine: Engine::by_the_wall(now, clock::on_the_wall(), loaded.policies.clone(), recovered),
        store,
        hands: Hands::new(host.clone(), results_sender),
        host,
        supervisors,
        owners,
        reporter,
        outgoing,
        answers,
        lost: Lost::default(),
        malformed: Malformed::default(),
        files: Files::default(),
        watched: BTreeSet::new(),
        peers: super::peers::Peers::new(trouble),
        doubts: super::meet::Doubts::default(),
        taps: Taps::into_file(recording),
        fail_point,
        waits_watch,
        work_watch,
        memory_watch,
        level_watch,
        probes: Probes::default(),
        kubelet,
        captures: Captures::new(evidence),
        raws: Vec::new(),
        unnamed: super::unnamed::Unnamed::default(),
        cluster,
        from_cluster,
        options,
    };
    agent.begin(loaded, &notes);
    Ok((agent, wakes))
}

impl Agent {
    fn begin(&mut self, loaded: Loaded, notes: &[String]) {
        let sensors = self.publish_sensors();
        self.reporter.set_store_status(&self.store.status());
        self.put_in_force(loaded);
        self.meet_everybody();
        self.flush();
        for note in notes {
            self.say("store", note);
        }
        if let Some(rights) = self.sense.rights().map(str::to_owned) {
            self.say("rights", &rights);
        }
        let up = sensors.iter().filter(|sensor| sensor.is_up()).count();
        let degraded = sensors.iter().filter(|sensor| sensor.state == view::SensorState::Degraded).count();
        let mode = self
            .engine
            .policies()
            .policies
            .iter()
            .map(|policy| choose::effective_mode(policy, self.engine.policies().mode_cap));
        let says = format!(
            "{up} of {} sensors attached, {degraded} degraded; {} policies, mode {}; http://{}",
            sensors.len(),
            self.engine.policies().policies.len(),
            mode.max().map_or("none", |mode| mode.name()),
            self.options.listen.map_or_else(|| "off".to_owned(), |listen| listen.to_string()),
        );
        self.say("ready", &says);
        self.flush();
        // Not under systemd: there is nobody to tell.
        sd_notify::notify(&[sd_notify::NotifyState::Ready]).ok();
    }

    /// Shows the sensors' state, and says what is not as it was shown before.
    pub(super) fn publish_sensors(&mut self) -> Vec<Sensor> {
        let now = read_clock()();
        let shown = |status: &sense::SensorStatus| Sensor {
            mode_since_time: status.mode.as_ref().map(|mode| rfc3339(now, mode.since)),
            ..Sensor::from(status)
        };
        let mut sensors: Vec<Sensor> = self.sense.sensors().iter().map(shown).collect();
        sensors.push(self.work_watch.sensor());
        sensors.push(self.memory_watch.sensor());
        sensors.push(levels::sensor());
        self.waits_watch.dim(&mut sensors);
        dim(&mut sensors, &self.lacking);
        let shown = self.reporter.shared.read(|view| view.sensors.clone());
        let is_shown = |sensor: &Sensor| shown.iter().any(|old| same_trouble(old, sensor));
        say_what_is_missing(sensors.iter().filter(|sensor| !is_shown(sensor)));
        self.reporter.set_sensors(sensors.clone());
        sensors
    }
}

/// What sees less without a right, and cannot tell by itself.
fn dim(sensors: &mut [Sensor], lacking: &[&Capability]) {
    for right in lacking {
        for sensor in sensors.iter_mut().filter(|one| one.is_up() && right.dims.contains(&&*one.name)) {
            let join = |said: Option<String>, more: String| {
                said.map_or(more.clone(), |said| format!("{said}; {more}"))
            };
            sensor.state = view::SensorState::Degraded;
            sensor.reason = Some(join(sensor.reason.take(), right.words()));
            sensor.remedy = Some(join(sensor.remedy.take(), format!("give healer {}", right.name)));
        }
    }
}

fn same_trouble(one: &Sensor, other: &Sensor) -> bool {
    (&one.name, &one.state, &one.reason) == (&other.name, &other.state, &other.reason)
}

/// One line for each reason, and what works all the same.
fn say_what_is_missing<'a>(sensors: impl Iterator<Item = &'a Sensor> + Clone) {
    let mut missing: BTreeMap<(&str, &str, &str), Vec<&str>> = BTreeMap::new();
    let is_told = |sensor: &&Sensor| !sensor.is_up() || sensor.reason.is_some();
    for sensor in sensors.clone().filter(is_told) {
        let reason = sensor.reason.as_deref().unwrap_or("unknown reason");
        let remedy = sensor.remedy.as_deref().unwrap_or("see `healer doctor`");
        let by = sensor.via.as_deref().unwrap_or_default();
        missing.entry((by, reason, remedy)).or_default().push(&sensor.name);
    }
    for ((by, reason, remedy), names) in missing {
        let how = if by.is_empty() { "down".to_owned() } else { format!("only by {by}") };
        tracing::warn!("{how}: {}: {reason}; {remedy}", names.join(", "));
    }
    if sensors.clone().any(|sensor| sensor.name == "process_exit" && !sensor.is_up()) {
        tracing::warn!(
            "the kernel tells of no death: supervised commands are still healed, as their supervisors tell; \
             of all others nothing is known"
        );
    }
}

fn reporter(outgoing: &Rc<RefCell<Vec<Work>>>, boot_id: String) -> Reporter {
    let queue = Rc::clone(outgoing);
    let append = move |report: &Report| {
        queue.borrow_mut().push(Work::from(report.clone()));
        Ok(String::new())
    };
    Reporter::new(Box::new(append), read_clock(), boot_id)
}

/// HTTP and the control socket: bound here, so that a failure is known before `ready`. Port 0 becomes the port that
/// the kernel chose.
async fn serve(
    options: &Options,
    reporter: &Reporter,
) -> anyhow::Result<(Option<SocketAddr>, mpsc::Receiver<control::Order>)> {
    reporter.shared.update(|view| {
        view.agent = view::Agent {
            pid: std::process::id(),
            started: clock::boot(),
            state_dir: options.state_dir.display().to_string(),
            paused: None,
            not_writable: None,
        };
    });
    let (sender, orders) = mpsc::channel(16);
    let control = control::bind(&options.state_dir, reporter.shared.clone(), read_clock(), sender)?;
    tokio::spawn(control.serve());
    let mut bound = None;
    if let Some(listen) = options.listen {
        let listener = http::bind(listen).await?;
        bound = Some(listener.local_addr().context("ask which port it is")?);
        let face = http::Face {
            shared: reporter.shared.clone(),
            metrics: reporter.metrics.clone(),
            clock: read_clock(),
        };
        tokio::spawn(async move {
            if let Err(error) = http::serve(listener, face).await {
                tracing::error!("{error:#}");
            }
        });
    }
    Ok((bound, orders))
}

fn read_clock() -> ReadClock {
    Arc::new(|| Now { boot: clock::boot(), wall: clock::wall() })
}

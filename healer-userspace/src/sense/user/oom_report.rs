//! The lines that the OOM killer writes into the kernel's log (mm/oom_kill.c, mm/memcontrol.c). Pure.

/// One kill, as far as its lines were seen: under pressure the kernel leaves out all but the last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct OomReport {
    pub(super) victim: u32,
    /// Untrusted, as the victim chose it.
    pub(super) comm: String,
    pub(super) uid: u32,
    pub(super) is_memcg: bool,
    /// The task whose allocation failed: its thread, and its name.
    pub(super) trigger: Option<(u32, String)>,
    /// Path of the cgroup at its limit, below its hierarchy's mount.
    pub(super) oom_memcg: Option<String>,
    pub(super) task_memcg: Option<String>,
    pub(super) usage_bytes: u64,
    pub(super) limit_bytes: u64,
    pub(super) rss_bytes: u64,
    pub(super) oom_score_adj: i32,
}

/// Puts lines together until the one that says who was killed.
#[derive(Debug, Default)]
pub(super) struct OomParser {
    pending: OomReport,
}

impl OomParser {
    /// Takes the next line of the kernel's; gives a kill with its last line.
    pub(super) fn line(&mut self, line: &[u8]) -> Option<OomReport> {
        let line = str::from_utf8(line).ok()?;
        if let Some((comm, _)) = line.split_once(" invoked oom-killer: gfp_mask=") {
            self.pending = OomReport { trigger: Some((0, comm.to_owned())), ..OomReport::default() };
        } else if line.starts_with("CPU: ") {
            self.pending.name_trigger(line);
        } else if let Some(rest) = line.strip_prefix("memory: usage ") {
            self.pending.charge(rest);
        } else if let Some(rest) = line.strip_prefix("oom-kill:constraint=") {
            self.pending.constrain(rest);
        } else if let Some((head, rest)) = line.split_once("Killed process ") {
            let report = std::mem::take(&mut self.pending);
            return report.killed(head, rest);
        }
        None
    }
}

impl OomReport {
    /// `CPU: 1 [UID: 0] PID: 4711 Comm: leak Not tainted …`, of `dump_stack`.
    fn name_trigger(&mut self, line: &str) {
        let pid = line.split_once(" PID: ").and_then(|(_, rest)| number(rest));
        if let (Some(pid), Some((trigger, _))) = (pid, &mut self.trigger) {
            *trigger = pid;
        }
    }

    /// `65536kB, limit 65536kB, failcnt 33`; later lines about swap begin otherwise.
    fn charge(&mut self, rest: &str) {
        self.usage_bytes = number(rest).map_or(0, kib);
        let limit = rest.split_once("limit ").and_then(|(_, rest)| number(rest));
        self.limit_bytes = limit.map_or(0, kib);
    }

    /// `CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0,oom_memcg=/a,task_memcg=/a/b,task=…`
    fn constrain(&mut self, rest: &str) {
        self.is_memcg = rest.starts_with("CONSTRAINT_MEMCG");
        let between = |from: &str, to: &str| {
            let (_, rest) = rest.split_once(from)?;
            rest.split_once(to).map(|(path, _)| path.to_owned())
        };
        self.oom_memcg = between(",oom_memcg=", ",task_memcg=");
        self.task_memcg = between(",task_memcg=", ",task=");
    }

    /// `4711 (leak) total-vm:92592kB, anon-rss:65280kB, …, UID:0 pgtables:208kB oom_score_adj:0`
    fn killed(mut self, head: &str, rest: &str) -> Option<Self> {
        self.victim = number(rest)?;
        // The name may hold anything, but what follows it does not.
        let (comm, facts) = rest.split_once(" (")?.1.rsplit_once(") ")?;
        self.comm = comm.to_owned();
        self.is_memcg |= head.starts_with("Memory cgroup out of memory");
        let fact = |name: &str| facts.split_once(name).and_then(|(_, rest)| number::<u64>(rest));
        let pages = ["anon-rss:", "file-rss:", "shmem-rss:"];
        self.rss_bytes = pages.iter().filter_map(|name| fact(name)).map(kib).sum();
        self.uid = fact("UID:").and_then(|uid| u32::try_from(uid).ok()).unwrap_or(0);
        let adj = facts.split_once("oom_score_adj:");
        self.oom_score_adj = adj.and_then(|(_, adj)| adj.trim().parse().ok()).unwrap_or(0);
        Some(self)
    }
}

fn number<T: std::str::FromStr>(text: &str) -> Option<T> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text.get(..end)?.parse().ok()
}

fn kib(kib: u64) -> u64 {
    kib.saturating_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A 6.18 kernel's lines for a kill in a memory cgroup, shortened where nothing is read.
    const MEMCG: &str = "\
leak invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0, oom_score_adj=0
CPU: 0 UID: 0 PID: 23456 Comm: leak Not tainted 6.18.44 #1 PREEMPT
memory: usage 65536kB, limit 65536kB, failcnt 33
swap: usage 0kB, limit 9007199254740988kB, failcnt 0
Tasks state (memory values in pages):
oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0,oom_memcg=/h6,task_memcg=/h6/in,task=ho,g,pid=23455,uid=1000
Memory cgroup out of memory: Killed process 23455 (ho) (g) total-vm:92592kB, anon-rss:65280kB, file-rss:9892kB, shmem-rss:4kB, UID:1000 pgtables:208kB oom_score_adj:-5";

    fn read(text: &str) -> Vec<OomReport> {
        let mut parser = OomParser::default();
        text.lines().filter_map(|line| parser.line(line.as_bytes())).collect()
    }

    #[test]
    fn a_kill_is_put_together_from_its_lines() {
        let [report] = &read(MEMCG)[..] else { panic!("one kill") };
        let expected = OomReport {
            victim: 23455,
            comm: "ho) (g".to_owned(),
            uid: 1000,
            is_memcg: true,
            trigger: Some((23456, "leak".to_owned())),
            oom_memcg: Some("/h6".to_owned()),
            task_memcg: Some("/h6/in".to_owned()),
            usage_bytes: 64 << 20,
            limit_bytes: 64 << 20,
            rss_bytes: (65280 + 9892 + 4) << 10,
            oom_score_adj: -5,
        };
        assert_eq!(*report, expected);
    }

    #[test]
    fn the_last_line_alone_is_a_kill() {
        let last = MEMCG.lines().last().unwrap();
        let [report] = &read(last)[..] else { panic!("one kill") };
        assert_eq!((report.victim, report.is_memcg, &report.trigger), (23455, true, &None));
        let global = last.replace("Memory cgroup out of memory", "Out of memory");
        assert!(!read(&global)[0].is_memcg);
    }

    #[test]
    fn lines_of_one_kill_do_not_colour_the_next() {
        let twice =
            format!("{MEMCG}\nOut of memory: Killed process 9 (b) total-vm:1kB, UID:0 oom_score_adj:0");
        let reports = read(&twice);
        assert_eq!(reports.len(), 2);
        assert_eq!(
            (reports[1].oom_memcg.as_ref(), reports[1].usage_bytes, reports[1].is_memcg),
            (None, 0, false)
        );
    }

    #[test]
    fn no_line_makes_it_panic() {
        for end in 0..MEMCG.len() {
            read(&MEMCG[..end]);
            read(&MEMCG[end..]);
        }
        assert!(read("Killed process x (y)").is_empty());
    }
}

//! What Docker has written down for a container, and has it written anew: pause and update.

use bollard::{
    models::{ContainerInspectResponse, ContainerMemoryStats, ContainerUpdateBody},
    query_parameters::StatsOptionsBuilder,
};
use futures_util::StreamExt as _;

use super::{Engine, Result, soon};

/// 0: nothing.
#[derive(Clone, Copy, Debug, Default)]
pub(in super::super) struct Limits {
    pub(in super::super) is_running: bool,
    pub(in super::super) is_paused: bool,
    pub(in super::super) nano_cpus: i64,
    pub(in super::super) quota: i64,
    pub(in super::super) period: i64,
    pub(in super::super) shares: i64,
    pub(in super::super) memory: i64,
    /// Memory and swap together; -1: not limited.
    pub(in super::super) with_swap: i64,
    /// -1: not limited.
    pub(in super::super) tasks: i64,
}

pub(in super::super) fn limits(answer: ContainerInspectResponse) -> Limits {
    let state = answer.state.unwrap_or_default();
    let config = answer.host_config.unwrap_or_default();
    Limits {
        is_running: state.running.unwrap_or_default(),
        is_paused: state.paused.unwrap_or_default(),
        nano_cpus: config.nano_cpus.unwrap_or_default(),
        quota: config.cpu_quota.unwrap_or_default(),
        period: config.cpu_period.unwrap_or_default(),
        shares: config.cpu_shares.unwrap_or_default(),
        memory: config.memory.unwrap_or_default(),
        with_swap: config.memory_swap.unwrap_or_default(),
        tasks: config.pids_limit.unwrap_or_default(),
    }
}

/// Without the file pages that nobody has used for long, which the kernel drops before it kills; as `docker stats` has it. In
/// v1 the names are those of the whole subtree.
fn not_reclaimable(told: &ContainerMemoryStats) -> Option<u64> {
    let stats = told.stats.as_ref();
    let idle = ["total_inactive_file", "inactive_file"].into_iter().find_map(|name| stats?.get(name));
    Some(told.usage?.saturating_sub(idle.copied().unwrap_or_default()))
}

impl Engine {
    /// None: there is no such container.
    pub(in super::super) async fn limits(&self, id: &str) -> Result<Option<Limits>> {
        Ok(self.ask_about(id).await?.map(limits))
    }

    /// In bytes. None: not told, as of a container that does not run.
    pub(in super::super) async fn memory_in_use(&self, id: &str) -> Result<Option<u64>> {
        let once = StatsOptionsBuilder::default().stream(false).one_shot(true).build();
        let asked = async {
            let mut told = core::pin::pin!(self.0.stats(id, Some(once)));
            told.next().await.transpose()
        };
        let told = soon("ask Docker for the memory in use", asked).await?;
        Ok(told.and_then(|told| not_reclaimable(&told.memory_stats?)))
    }

    pub(in super::super) async fn pause(&self, id: &str, halt: bool) -> Result<()> {
        match halt {
            true => soon("pause through Docker", self.0.pause_container(id)).await,
            false => soon("unpause through Docker", self.0.unpause_container(id)).await,
        }
    }

    pub(in super::super) async fn weigh(&self, id: &str, shares: i64) -> Result<()> {
        self.update(id, ContainerUpdateBody { cpu_shares: Some(shares), ..Default::default() }).await
    }

    pub(in super::super) async fn give_cpus(&self, id: &str, nanos: i64) -> Result<()> {
        self.update(id, ContainerUpdateBody { nano_cpus: Some(nanos), ..Default::default() }).await
    }

    pub(in super::super) async fn set_quota(&self, id: &str, quota: i64, period: i64) -> Result<()> {
        let body =
            ContainerUpdateBody { cpu_quota: Some(quota), cpu_period: Some(period), ..Default::default() };
        self.update(id, body).await
    }

    /// Always both: Docker takes no memory beyond the sum that it has, and -1 may count as less than any
    /// (`UpdateContainer`, `container/container_unix.go`).
    pub(in super::super) async fn give_memory(&self, id: &str, memory: i64, with_swap: i64) -> Result<()> {
        let body =
            ContainerUpdateBody { memory: Some(memory), memory_swap: Some(with_swap), ..Default::default() };
        self.update(id, body).await
    }

    pub(in super::super) async fn give_tasks(&self, id: &str, tasks: i64) -> Result<()> {
        self.update(id, ContainerUpdateBody { pids_limit: Some(tasks), ..Default::default() }).await
    }

    async fn update(&self, id: &str, body: ContainerUpdateBody) -> Result<()> {
        soon("update through Docker", self.0.update_container(id, body)).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_that_the_kernel_would_drop_are_not_in_use() {
        let of = |text: &str| not_reclaimable(&serde_json::from_str(text).unwrap());
        assert_eq!(of(r#"{"usage": 100, "stats": {"inactive_file": 30, "file": 60}}"#), Some(70));
        let v1 = r#"{"usage": 100, "stats": {"inactive_file": 10, "total_inactive_file": 40}}"#;
        assert_eq!(of(v1), Some(60));
        assert_eq!(of(r#"{"usage": 100}"#), Some(100));
        assert_eq!(of("{}"), None);
    }
}

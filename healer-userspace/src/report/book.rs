//! The incident book: what happened to whom, from first kernel record to verified recovery.
//! Built from records alone, so that a running agent and a cold audit file tell the same story.

mod page;

use std::collections::{BTreeMap, VecDeque};

use serde_json::Value;

use self::page::Page;
use super::{
    incidents::{Incident, is_named},
    record::{Record, text},
};

/// The last incidents, in memory. Timelines are kept as text: a thousand of them fit in some megabytes.
#[derive(Debug)]
pub struct Book {
    pages: BTreeMap<u64, Page>,
    /// Order of arrival, oldest first.
    order: VecDeque<u64>,
    cap: usize,
}

pub const INCIDENT_CAP: usize = 1000;

impl Default for Book {
    fn default() -> Self {
        Self::with_cap(INCIDENT_CAP)
    }
}

impl Book {
    pub fn with_cap(cap: usize) -> Self {
        Self { pages: BTreeMap::new(), order: VecDeque::new(), cap: cap.max(1) }
    }

    /// Files a record under its incident; records of the agent itself are passed over.
    pub fn add(&mut self, record: &Record) {
        let Some(id) = record.get("incident").and_then(incident_number) else {
            return;
        };
        if !self.pages.contains_key(&id) {
            self.make_room();
            self.order.push_back(id);
        }
        let page = self.pages.entry(id).or_insert_with(|| Page::new(id, text(record, "workload")));
        page.add(record);
    }

    /// No agent goes on with what is open: it was `interrupted`, until a new agent does.
    pub fn interrupt_open(&mut self) {
        self.pages.values_mut().for_each(Page::interrupt);
    }

    /// The oldest closed incident goes first, else the oldest of all.
    fn make_room(&mut self) {
        if self.order.len() < self.cap {
            return;
        }
        let closed = |id: &u64| self.pages.get(id).is_some_and(|page| !page.incident.open);
        let index = self.order.iter().position(closed).unwrap_or(0);
        if let Some(id) = self.order.remove(index) {
            self.pages.remove(&id);
        }
    }

    /// By `i42` or `42`, with its timeline.
    pub fn get(&self, id: &str) -> Option<Incident> {
        self.pages.get(&parse_id(id)?).map(Page::whole)
    }

    pub fn len(&self) -> usize {
        self.pages.len()
    }

    pub fn is_empty(&self) -> bool {
        self.pages.is_empty()
    }

    /// Newest first, without timelines.
    pub fn newest(&self) -> impl Iterator<Item = &Incident> {
        self.newest_pages().map(|page| &page.incident)
    }

    fn newest_pages(&self) -> impl Iterator<Item = &Page> {
        self.order.iter().rev().filter_map(|id| self.pages.get(id))
    }

    /// Incidents of TARGET with timelines, newest first: an incident id (`i42`), a workload's key or name, a pid.
    pub fn about(&self, target: &str) -> Vec<Incident> {
        if target.starts_with('i')
            && let Some(incident) = self.get(target)
        {
            return vec![incident];
        }
        let named = |page: &&Page| is_named(&page.incident.workload, target);
        let by_name: Vec<_> = self.newest_pages().filter(named).map(Page::whole).collect();
        match target.parse() {
            Ok(pid) if by_name.is_empty() => {
                self.newest_pages().filter(|page| page.concerns(pid)).map(Page::whole).collect()
            }
            Ok(_) | Err(_) => by_name,
        }
    }
}

/// `"i42"` as the audit writes it, `42` as a bare number.
fn incident_number(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| parse_id(value.as_str()?))
}

fn parse_id(id: &str) -> Option<u64> {
    id.strip_prefix('i').unwrap_or(id).parse().ok()
}

#[cfg(test)]
mod tests;

//! healer without the feature `kube`: there is nobody to ask, and it says so.

use std::io;

use tokio::sync::mpsc;

use super::{Eviction, Settings, failed};
use crate::{
    action::host::{Afar, Later},
    config::{FromCluster, Verdict},
    engine::{lease::Knob, report::Report},
    identity::process::{Place, Pod},
    report::record::ActName,
    runtimes::{Done, Learnt},
};

const WORDS: &str = "this healer is built without kube";

#[derive(Clone, Debug, Default)]
pub struct Cluster;

/// Nobody says anything.
#[derive(Clone, Debug)]
pub struct Kubelet;

impl Kubelet {
    pub fn follow(&self) {}

    /// # Errors
    /// Always.
    pub fn is_ready(&self, _: &Place) -> Result<bool, String> {
        Err(WORDS.to_owned())
    }
}

/// Nobody is told.
#[derive(Debug)]
pub enum Events {}

/// Nobody keeps one.
#[derive(Debug)]
pub enum Statuses {}

impl Cluster {
    pub fn new(_: &Settings) -> Self {
        Self
    }

    pub fn is_reachable(_: &Settings) -> bool {
        false
    }

    /// # Errors
    /// Always.
    pub fn node(&self) -> Result<String, String> {
        Err(WORDS.to_owned())
    }

    /// # Errors
    /// Always.
    pub async fn evict(&self, _: &Eviction) -> Done {
        Err(failed(WORDS))
    }

    /// # Errors
    /// Always.
    pub async fn is_paused(&self, _: &Pod, _: &str) -> Result<bool, String> {
        Err(WORDS.to_owned())
    }

    /// # Errors
    /// Always.
    pub async fn waits_for(&self, _: &Pod, _: &str) -> Result<Option<String>, String> {
        Err(WORDS.to_owned())
    }

    pub fn tell_events(&self) -> Option<Events> {
        None
    }

    pub fn kubelet(&self, _: mpsc::Sender<Learnt>) -> Kubelet {
        Kubelet
    }

    pub fn follow_policies(&self, _: mpsc::Sender<Vec<FromCluster>>) -> Option<Statuses> {
        None
    }
}

impl Afar for Cluster {
    fn read_afar<'a>(&'a self, _: &'a Knob) -> Later<'a, io::Result<Option<String>>> {
        Box::pin(async { Err(io::Error::other(WORDS)) })
    }

    fn set_afar<'a>(&'a self, _: &'a Knob, _: &'a str) -> Later<'a, io::Result<()>> {
        Box::pin(async { Err(io::Error::other(WORDS)) })
    }
}

impl Events {
    pub fn tell(&mut self, _: &Report, _: Option<&ActName>) {
        match *self {}
    }
}

impl Statuses {
    pub fn judged(&mut self, _: Vec<Verdict>) {
        match *self {}
    }

    pub fn tell(&mut self, _: &Report) {
        match *self {}
    }

    pub fn look(&mut self) {
        match *self {}
    }
}

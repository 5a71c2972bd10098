//! healer without the feature `kube`: there is nobody to ask, and it says so.

use std::io;

use super::{Eviction, Settings, failed};
use crate::{
    action::host::{Afar, Later},
    engine::{lease::Knob, report::Report},
    report::record::ActName,
    runtimes::Done,
};

const WORDS: &str = "this healer is built without kube";

#[derive(Clone, Debug, Default)]
pub struct Cluster;

/// Nobody is told.
#[derive(Debug)]
pub enum Events {}

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

    pub fn tell_events(&self) -> Option<Events> {
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

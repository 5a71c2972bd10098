//! What can be seen now: a signal is exported while an attached sensor brings it.

use std::sync::PoisonError;

use super::{
    Metrics, Sensor,
    labels::{CapabilityLabels, ModeLabels, SensorLabels, SignalLabels},
};
use crate::{
    capabilities::{CAPABILITIES, Capability, For},
    sense::govern::Mode,
};

impl Metrics {
    /// The whole list of sensors, whenever it changes. Values of dead sensors disappear.
    pub fn set_sensors(&self, sensors: &[Sensor]) {
        let mut known = self.sensors.lock().unwrap_or_else(PoisonError::into_inner);
        self.sensor_up.clear();
        for sensor in sensors {
            let up = self.sensor_up.get_or_create_owned(&SensorLabels::from(sensor));
            up.set(i64::from(sensor.is_up()));
        }
        self.sensor_mode.clear();
        for sensor in sensors {
            let Some(mode) = &sensor.mode else { continue };
            for name in Mode::ALL.map(Mode::name) {
                let labels = ModeLabels { sensor: sensor.name.clone(), mode: name.to_owned() };
                self.sensor_mode.get_or_create_owned(&labels).set(i64::from(name == mode));
            }
        }
        for dead in known.iter().flat_map(|sensor| &sensor.signals) {
            if !brings(sensors, dead) {
                self.signals.remove(&SignalLabels { signal: dead.clone() });
            }
        }
        for alive in sensors.iter().filter(|of| of.is_up()).flat_map(|of| &of.signals) {
            self.signals.get_or_create_owned(&SignalLabels { signal: alive.clone() });
        }
        *known = sensors.to_vec();
    }
}

impl Metrics {
    /// Once, at start.
    pub fn capabilities(&self, lacking: &[&Capability]) {
        for right in CAPABILITIES.iter().filter(|right| right.for_what != For::Extra) {
            let labels = CapabilityLabels { capability: right.name };
            let is_held = lacking.iter().all(|lacked| lacked.bit != right.bit);
            self.capability_held.get_or_create_owned(&labels).set(i64::from(is_held));
        }
    }
}

fn brings(sensors: &[Sensor], signal: &String) -> bool {
    sensors.iter().any(|sensor| sensor.is_up() && sensor.signals.contains(signal))
}

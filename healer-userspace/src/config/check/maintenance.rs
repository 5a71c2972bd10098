//! `maintenance`: two times of the day, or two moments.

use super::{
    super::{
        key::{At, Items, Key},
        moment::{Moment, Weekday},
        policy as shape,
        problem::Fault,
    },
    required,
};
use crate::engine::policy::maintenance::{Days, Maintenance};

pub(in crate::config) fn read(
    windows: &Key<Items<shape::Maintenance>>,
    faults: &mut Vec<Fault>,
) -> Vec<Maintenance> {
    let Some(Items(given)) = windows.value() else {
        return Vec::new();
    };
    given.iter().filter_map(|window| one(window, faults)).collect()
}

fn one(window: &At<shape::Maintenance>, faults: &mut Vec<Fault>) -> Option<Maintenance> {
    let shape = &window.value;
    let from = required(&shape.from, "from", "maintenance", window.place, faults);
    let to = required(&shape.to, "to", "maintenance", window.place, faults);
    let (from, to) = (from?, to?);
    let days = shape.days.given();
    let (message, place) = match (from.value.0, to.value.0) {
        (Moment::OfDay(begin), Moment::OfDay(end)) if begin != end => {
            let days = days.map_or(Days::ALL, |given| of_week(given.value.0.iter().map(|at| at.value)));
            return Some(Maintenance::Weekly { days, from: begin, to: end });
        }
        (Moment::OfDay(_), Moment::OfDay(_)) => ("maintenance: from and to are the same", to.place),
        (Moment::Once(begin), Moment::Once(end)) if begin < end => match days {
            None => return Some(Maintenance::Once { from: begin, to: end }),
            Some(days) => ("days: they are of times of the day, not of dates", days.place),
        },
        (Moment::Once(_), Moment::Once(_)) => ("maintenance: it ends before it begins", to.place),
        (Moment::OfDay(_), Moment::Once(_)) | (Moment::Once(_), Moment::OfDay(_)) => {
            ("maintenance: give two times of the day, or two dates", to.place)
        }
    };
    faults.push(Fault::new(place, message));
    None
}

fn of_week(days: impl Iterator<Item = Weekday>) -> Days {
    Days(days.fold(0, |bits, day| bits | 1 << day.number()))
}

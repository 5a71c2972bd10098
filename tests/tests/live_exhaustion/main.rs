//! Needs root: what runs out is seen by what fails of it, and by looks; who is well is left alone.
//!
//! guest: all

mod sensor;

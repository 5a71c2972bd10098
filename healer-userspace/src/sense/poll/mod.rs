//! What no tracepoint tells: state that has to be looked at again and again.

pub mod tasks;

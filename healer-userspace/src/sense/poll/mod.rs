//! What no tracepoint tells: state that has to be looked at again and again.

pub mod cpu;
pub mod memory;
pub mod levels;
pub mod flows;
pub mod sockets;
pub mod peers;
pub mod routes;
pub mod tasks;
mod unix_sockets;
pub mod work;

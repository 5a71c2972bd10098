//! What the kernel counts of one connection.

use super::{u32_at, u64_at};

/// Of `struct tcp_info` (include/uapi/linux/tcp.h, only ever appended to).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Info {
    pub retransmits: u8,
    pub probes: u8,
    pub unacked: u32,
    pub last_data_sent_ms: u32,
    pub last_data_received_ms: u32,
    pub last_ack_received_ms: u32,
    /// Smoothed time from a segment to its acknowledgement.
    pub rtt_us: u32,
    pub bytes_acked: u64,
    pub bytes_received: u64,
    /// 0 before Linux 4.6.
    pub not_sent: u32,
    pub data_segments_out: u32,
    /// What the peer would take now; `None` before Linux 5.4.
    pub window: Option<u32>,
}

impl Info {
    /// Offsets in `struct tcp_info`.
    pub(super) fn read(value: &[u8]) -> Option<Self> {
        Some(Self {
            retransmits: *value.get(2)?,
            probes: *value.get(3)?,
            unacked: u32_at(value, 24)?,
            last_data_sent_ms: u32_at(value, 44)?,
            last_data_received_ms: u32_at(value, 52)?,
            last_ack_received_ms: u32_at(value, 56)?,
            rtt_us: u32_at(value, 68)?,
            bytes_acked: u64_at(value, 120)?,
            bytes_received: u64_at(value, 128)?,
            not_sent: u32_at(value, 144).unwrap_or(0),
            data_segments_out: u32_at(value, 156).unwrap_or(0),
            window: u32_at(value, 228),
        })
    }
}

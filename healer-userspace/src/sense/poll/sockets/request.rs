//! What the kernel is asked: `struct inet_diag_req_v2` behind a netlink header.

use super::{INET_DIAG_INFO, MESSAGE_SIZE, SOCK_DIAG_BY_FAMILY, Socket};

pub(super) fn tcp_request(family: u8, states: u32) -> [u8; MESSAGE_SIZE] {
    request(family, libc::IPPROTO_TCP as u8, states)
}

/// Of those that are connected to this port only.
pub(super) fn udp_request(family: u8, states: u32, peer_port: u16) -> [u8; MESSAGE_SIZE] {
    let mut request = request(family, libc::IPPROTO_UDP as u8, states);
    request[26..28].copy_from_slice(&peer_port.to_be_bytes());
    request
}

fn request(family: u8, protocol: u8, states: u32) -> [u8; MESSAGE_SIZE] {
    const NLM_F_REQUEST_DUMP: u16 = 0x301;
    const WITH_INFO: u8 = 1 << (INET_DIAG_INFO - 1);
    let mut request = [0_u8; MESSAGE_SIZE];
    request[..4].copy_from_slice(&(MESSAGE_SIZE as u32).to_ne_bytes());
    request[4..6].copy_from_slice(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    request[6..8].copy_from_slice(&NLM_F_REQUEST_DUMP.to_ne_bytes());
    request[16..20].copy_from_slice(&[family, protocol, WITH_INFO, 0]);
    request[20..24].copy_from_slice(&states.to_ne_bytes());
    request
}

/// `struct inet_diag_req_v2`: the tuple and the cookie together name one socket for ever.
pub(super) fn destroy_request(socket: &Socket) -> [u8; MESSAGE_SIZE] {
    const SOCK_DESTROY: u16 = 21;
    const NLM_F_REQUEST_ACK: u16 = 0x5;
    let mut request = tcp_request(socket.family, 0);
    request[4..6].copy_from_slice(&SOCK_DESTROY.to_ne_bytes());
    request[6..8].copy_from_slice(&NLM_F_REQUEST_ACK.to_ne_bytes());
    request[18] = 0;
    request[24..26].copy_from_slice(&socket.local_port.to_be_bytes());
    request[26..28].copy_from_slice(&socket.peer_port.to_be_bytes());
    request[28..44].copy_from_slice(&socket.local_address);
    request[44..60].copy_from_slice(&socket.peer_address);
    request[60..64].copy_from_slice(&socket.interface.to_ne_bytes());
    request[64..68].copy_from_slice(&(socket.cookie as u32).to_ne_bytes());
    request[68..72].copy_from_slice(&((socket.cookie >> 32) as u32).to_ne_bytes());
    request
}

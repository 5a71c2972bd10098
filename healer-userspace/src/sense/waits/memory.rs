//! The memory of other processes, read without stopping them.

use crate::patience::MEMORY;

/// Fills `buffer` from `address` on; gives the bytes read, which end where a mapping ends.
pub(crate) fn read(pid: u32, address: u64, buffer: &mut [u8]) -> usize {
    let remote = libc::iovec { iov_base: address as *mut libc::c_void, iov_len: buffer.len() };
    read_vectors(pid, &[remote], buffer)
}

/// The same up to the end of the mapping: a transfer is cut only between vectors, so each page is one.
pub(crate) fn read_upward(pid: u32, from: u64, buffer: &mut [u8]) -> usize {
    const PAGE: usize = 4096;
    let mut remote = Vec::with_capacity(buffer.len() / PAGE + 2);
    let (mut at, mut left) = (from, buffer.len());
    while 0 < left {
        let len = (PAGE - at as usize % PAGE).min(left);
        remote.push(libc::iovec { iov_base: at as *mut libc::c_void, iov_len: len });
        at = at.wrapping_add(len as u64);
        left -= len;
    }
    read_vectors(pid, &remote, buffer)
}

/// Fills `buffer` from several places; ends at the first that is not mapped.
pub(crate) fn read_vectors(pid: u32, remote: &[libc::iovec], buffer: &mut [u8]) -> usize {
    let local = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    let count = remote.len() as libc::c_ulong;
    // SAFETY: the local vector is the buffer; the kernel checks the remote ones (process_vm_readv(2)).
    let read = unsafe { libc::process_vm_readv(pid as i32, &raw const local, 1, remote.as_ptr(), count, 0) };
    usize::try_from(read).unwrap_or(0)
}

/// Whether its memory can be read now: not while somebody holds, or waits to hold, the lock of its mappings.
pub(crate) fn is_open(pid: u32) -> bool {
    // The lock is taken before the address is looked at.
    MEMORY.ask(&pid.to_string(), move || read(pid, 0, &mut [0])).is_some()
}

/// The word of eight bytes at `address`, unless somebody holds the lock of the mappings for long.
pub(crate) fn pointer_patiently(pid: u32, address: u64) -> Option<u64> {
    let ask = move || {
        let mut bytes = [0; 8];
        (read(pid, address, &mut bytes) == bytes.len()).then(|| u64::from_ne_bytes(bytes))
    };
    MEMORY.ask(&pid.to_string(), ask).flatten()
}

/// The text at `address`, without the zero that ends it; `None` also if it is longer than any path.
pub(crate) fn text_patiently(pid: u32, address: u64) -> Option<Vec<u8>> {
    let ask = move || {
        let mut bytes = vec![0; libc::PATH_MAX as usize];
        let len = read_upward(pid, address, &mut bytes);
        let end = bytes[..len].iter().position(|byte| *byte == 0)?;
        bytes.truncate(end);
        Some(bytes)
    };
    MEMORY.ask(&pid.to_string(), ask).flatten()
}

/// How a look at a lock reads memory: all of `buffer` from `address`, or false.
pub(crate) type Reader<'a> = &'a dyn Fn(u64, &mut [u8]) -> bool;

pub(crate) fn reader(pid: u32) -> impl Fn(u64, &mut [u8]) -> bool {
    move |address, buffer| read(pid, address, buffer) == buffer.len()
}

pub(crate) fn word(read: Reader<'_>, address: u64) -> Option<u32> {
    let mut bytes = [0; 4];
    read(address, &mut bytes).then(|| u32::from_ne_bytes(bytes))
}

/// `N` 32-bit words from `address` on.
pub(crate) fn words<const N: usize>(read: Reader<'_>, address: u64) -> Option<[u32; N]> {
    let mut bytes = vec![0; 4 * N];
    if !read(address, &mut bytes) {
        return None;
    }
    let mut words = [0; N];
    for (word, chunk) in words.iter_mut().zip(bytes.chunks_exact(4)) {
        *word = u32::from_ne_bytes(chunk.try_into().ok()?);
    }
    Some(words)
}

//! Reading kernel structs at offsets that the loader filled in.

use core::marker::PhantomData;

use aya_ebpf::helpers::generated::{bpf_get_socket_cookie, bpf_probe_read_kernel};
use healer_common::tuning::ABSENT;

/// How a program may read kernel memory.
pub(crate) trait Access: Copy {
    /// Helpers that want a typed pointer take one of these.
    const IS_TYPED: bool;

    /// Reads a `T`; zero where the memory cannot be read.
    ///
    /// # Safety
    /// `from` lies in a kernel struct, and every byte pattern is a `T`.
    unsafe fn load<T: Copy + Default>(from: *const T) -> T;

    /// What tells this connection from others. `since_ns` is when it was asked for; 0 unknown.
    ///
    /// # Safety
    /// It is a socket.
    unsafe fn cookie(socket: *const u8, since_ns: u64) -> u64;
}

/// Plain loads, for pointers whose BTF type the verifier knows (`tp_btf`): no helper call.
///
/// For hot paths only: at each hop from a trusted pointer the verifier searches the kernel's whole
/// BTF by name (`btf_nested_type_is_trusted`), about a millisecond of load time each.
#[derive(Clone, Copy)]
pub(crate) struct Typed;

impl Access for Typed {
    const IS_TYPED: bool = true;

    #[inline(always)]
    unsafe fn load<T: Copy + Default>(from: *const T) -> T {
        // SAFETY: the caller's promise; the kernel gives 0 for a pointer that faults.
        unsafe { core::ptr::read_volatile(from) }
    }

    #[inline(always)]
    unsafe fn cookie(socket: *const u8, _since_ns: u64) -> u64 {
        // SAFETY: the caller's promise; the verifier knows its type.
        unsafe { bpf_get_socket_cookie(socket.cast_mut().cast()) }
    }
}

/// `bpf_probe_read_kernel`, for any address.
#[derive(Clone, Copy)]
pub(crate) struct Probed;

impl Access for Probed {
    const IS_TYPED: bool = false;

    #[inline(always)]
    unsafe fn load<T: Copy + Default>(from: *const T) -> T {
        let mut value = T::default();
        let size = size_of::<T>() as u32;
        // SAFETY: the helper checks the address, and fills the value with zeros if it is bad: no
        // branch is needed, which would double the verifier's paths.
        unsafe { bpf_probe_read_kernel((&raw mut value).cast(), size, from.cast()) };
        value
    }

    /// The helper wants a typed socket.
    #[inline(always)]
    unsafe fn cookie(socket: *const u8, since_ns: u64) -> u64 {
        if since_ns != 0 { since_ns } else { crate::peer::place(socket as u64) }
    }
}

/// A kernel struct, read by way of `A`.
#[derive(Clone, Copy)]
pub(crate) struct Object<A>(*const u8, PhantomData<A>);

impl<A: Access> Object<A> {
    /// `None` for a null pointer.
    #[inline(always)]
    pub(crate) fn new(pointer: *const u8) -> Option<Self> {
        (!pointer.is_null()).then_some(Self(pointer, PhantomData))
    }

    /// Of what may be no pointer: then its members are zero. Without a branch, which would double the verifier's paths.
    #[inline(always)]
    pub(crate) fn anywhere(pointer: *const u8) -> Object<Probed> {
        Object(pointer, PhantomData)
    }

    /// The member at `offset`.
    #[inline(always)]
    pub(crate) fn get<T: Copy + Default>(self, offset: u32) -> T {
        // SAFETY: the offset is that of an integer member, from the running kernel's BTF.
        unsafe { A::load(self.0.wrapping_add(offset as usize).cast()) }
    }

    /// The struct that the pointer at `offset` points to.
    #[inline(always)]
    pub(crate) fn follow(self, offset: u32) -> Option<Self> {
        // SAFETY: the offset is that of a pointer member, from the running kernel's BTF.
        let pointer: u64 = unsafe { A::load(self.0.add(offset as usize).cast()) };
        Self::new(pointer as *const u8)
    }

    /// The same struct, read by helper calls: what the verifier cannot type.
    #[inline(always)]
    pub(crate) fn probed(self) -> Object<Probed> {
        Object(self.0, PhantomData)
    }

    /// Where the string lies to whose place the word at `offset` points (`__data_loc`); `None`
    /// where this kernel's record has no such word.
    #[inline(always)]
    pub(crate) fn text(self, offset: u32) -> Option<*const u8> {
        if offset == ABSENT {
            return None;
        }
        let word: u32 = self.get(offset);
        Some(self.0.wrapping_add((word & 0xffff) as usize))
    }

    #[inline(always)]
    pub(crate) fn address(self) -> *const u8 {
        self.0
    }
}

//! Which code waits: Rust's mutex hands the kernel a two that is written in its code, a condition hands it what it has
//! counted.

use super::memory::Reader;

/// `mov edx, FUTEX_WAIT_BITSET | FUTEX_PRIVATE_FLAG` and `mov ecx, 2`: before the call of syscall(2) in std's
/// `Mutex::lock_contended`, on x86-64. Elsewhere nothing looks like that, and nothing is said.
const OPERATION: [u8; 5] = [0xba, 0x89, 0, 0, 0];
const LOCKED: [u8; 5] = [0xb9, 2, 0, 0, 0];
/// Arguments are set right before the call.
const BEFORE: usize = 48;

/// Whether a thread that sleeps with its stack at `sp` is in that function. glibc's syscall(2) has no frame: where it
/// returns to is on top.
pub(super) fn is_mutex_of_rust(read: Reader<'_>, sp: u64) -> bool {
    let (mut top, mut code) = ([0; 8], [0; BEFORE]);
    read(sp, &mut top)
        && read(u64::from_ne_bytes(top).wrapping_sub(BEFORE as u64), &mut code)
        && has(&code, &OPERATION)
        && has(&code, &LOCKED)
}

fn has(code: &[u8], instruction: &[u8]) -> bool {
    code.windows(instruction.len()).any(|bytes| bytes == instruction)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STACK: u64 = 0x7000;
    const RETURN: u64 = 0x5000;

    /// A stack with a return address on top, and `code` right before where that leads.
    fn seen(code: &[u8]) -> bool {
        let read = |address: u64, buffer: &mut [u8]| {
            if address == STACK {
                buffer.copy_from_slice(&RETURN.to_ne_bytes());
            } else {
                assert_eq!((address, buffer.len()), (RETURN - BEFORE as u64, BEFORE));
                buffer[BEFORE - code.len()..].copy_from_slice(code);
            }
            true
        };
        is_mutex_of_rust(&read, STACK)
    }

    #[test]
    fn a_mutex_is_told_from_a_condition_that_was_notified_twice() {
        // mov edi, SYS_futex; mov rsi, rbx; mov edx, 0x89; mov ecx, 2; xor r9d, r9d; xor eax, eax; call r15
        let mutex = [
            0xbf, 0xca, 0, 0, 0, 0x48, 0x89, 0xde, 0xba, 0x89, 0, 0, 0, 0xb9, 2, 0, 0, 0, 0x45, 0x31, 0xc9,
            0x31, 0xc0, 0x41, 0xff, 0xd7,
        ];
        assert!(seen(&mutex));
        // The same with mov ecx, r13d.
        let condition = [
            0xbf, 0xca, 0, 0, 0, 0x48, 0x89, 0xde, 0xba, 0x89, 0, 0, 0, 0x44, 0x89, 0xe9, 0x45, 0x31, 0xc9,
            0x31, 0xc0, 0x41, 0xff, 0xd7,
        ];
        assert!(!seen(&condition));
    }

    #[test]
    fn what_cannot_be_read_is_none() {
        assert!(!is_mutex_of_rust(&|_, _| false, STACK));
    }
}

# A 32-bit program that waits at a futex for ever: FUTEX_WAIT | FUTEX_PRIVATE_FLAG.
.globl _start
_start:
    movl $240, %eax
    movl $word, %ebx
    movl $128, %ecx
    movl $2, %edx
    xorl %esi, %esi
    int $0x80
    jmp _start
.data
word: .long 2

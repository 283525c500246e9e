/* How the board starts: it allows floating point, and hands over to the C library. */
#include <stdint.h>

extern void _start(void);
extern char __stack[];

void reset(void) {
    *(volatile uint32_t *)0xE000ED88 |= 0xFu << 20;
    __asm volatile("dsb\n\tisb");
    _start();
}

static void stop(void) {
    for (;;) {
    }
}

__attribute__((section(".vectors"), used)) static void (*const vectors[16])(void) = {
    (void (*)(void))__stack, reset, stop, stop, stop, stop, stop,
};

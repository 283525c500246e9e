/* Counts the ticks of the processor's clock that steps of a learner take, and those of a loop of known length. */
#include "model.h"

#include <stdint.h>
#include <stdio.h>

#define CONTROL (*(volatile uint32_t *)0xE000E010)
#define RELOAD (*(volatile uint32_t *)0xE000E014)
#define CURRENT (*(volatile uint32_t *)0xE000E018)

enum { STEPS = 20, ROUNDS = 100000 };

static model_real inputs[MODEL_INPUTS], targets[MODEL_TARGETS], outputs[MODEL_OUTPUTS];

static void known(uint32_t rounds) { /* two instructions a round */
    __asm volatile("1: subs %0, %0, #1\n\tbne 1b" : "+r"(rounds) : : "cc");
}

int main(void) {
    uint32_t before, loop;
    uint64_t ticks = 0;
    model_init();
    RELOAD = 0xFFFFFF;
    CURRENT = 0;
    CONTROL = 5; /* on, at the clock of the processor, without interrupts */
    before = CURRENT;
    known(ROUNDS);
    loop = (before - CURRENT) & 0xFFFFFF;
    for (int step = 0; step < STEPS; step++) {
        model_real loss = 0;
        int answer;
        for (int i = 0; i < MODEL_INPUTS; i++) {
            inputs[i] = (model_real)((step * 7 + i * 3) % 5 == 0);
        }
        before = CURRENT;
        answer = model_learn(inputs, targets, outputs, &loss);
        ticks += (before - CURRENT) & 0xFFFFFF;
        if (answer != MODEL_OK) {
            printf("refused %d\n", answer);
            return 1;
        }
    }
    printf("%lu %lu %d %d\n", (unsigned long)loop, (unsigned long)ticks, 2 * ROUNDS, STEPS);
    return 0;
}

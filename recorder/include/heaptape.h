/* heaptape: talk to the recorder from inside a recorded program.
 *
 * Include it anywhere; there is nothing to link. Outside a recording every call does nothing.
 * All functions may be called from any thread, and from signal handlers.
 */
#ifndef HEAPTAPE_H
#define HEAPTAPE_H

#ifdef __cplusplus
extern "C" {
#endif

/* Defined by the recorder's library when it is loaded, null otherwise. */
extern void heaptape_mark(const char *name) __attribute__((weak));
extern void heaptape_start(void) __attribute__((weak));
extern void heaptape_stop(void) __attribute__((weak));
extern int heaptape_state(void) __attribute__((weak));

/* Puts a marker into the recording, right here in the order of events: FILE@marker:NAME. */
static inline void HEAPTAPE_MARK(const char *name) {
    if (heaptape_mark)
        heaptape_mark(name);
}

/* Events are recorded from here on (after `heaptape record --paused`, or a stop). */
static inline void HEAPTAPE_START(void) {
    if (heaptape_start)
        heaptape_start();
}

/* Events are not recorded from here on. */
static inline void HEAPTAPE_STOP(void) {
    if (heaptape_stop)
        heaptape_stop();
}

/* 0: not in a recording, 1: recording, 2: paused. */
static inline int HEAPTAPE_STATE(void) {
    return heaptape_state ? heaptape_state() : 0;
}

#ifdef __cplusplus
}
#endif

#endif

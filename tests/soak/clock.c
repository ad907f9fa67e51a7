/* The wall clock as a daemon sees it, moved by what a file says. Loaded before a daemon's libraries; no clock of the machine is touched, and
   what counts time that passes (CLOCK_MONOTONIC) is left alone, as it is when a host's clock is set. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

static int (*own)(clockid_t, struct timespec *);
static const volatile long long *moved_s;

__attribute__((constructor)) static void begin(void) {
    own = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    const char *name = getenv("SULKU_SOAK_CLOCK");
    int file = name ? open(name, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0) return;
    void *mapped = mmap(NULL, sizeof *moved_s, PROT_READ, MAP_SHARED, file, 0);
    close(file);
    if (mapped != MAP_FAILED) moved_s = mapped;
}

int clock_gettime(clockid_t clock, struct timespec *time) {
    if (!own) begin();
    int result = own(clock, time);
    if (result == 0 && moved_s && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) time->tv_sec += *moved_s;
    return result;
}

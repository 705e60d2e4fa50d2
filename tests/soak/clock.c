/* A clock that is set by whoever started the program (LD_PRELOAD): the time of day, $ZHIFU_CLOCK's seconds ahead.
 *
 * The file holds one signed number of 8 bytes, read each time it is asked for, so that all programs agree. What
 * measures how long something takes (CLOCK_MONOTONIC) is left alone.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile const int64_t *ahead;
static int (*get)(clockid_t, struct timespec *);

__attribute__((constructor)) static void open_clock(void)
{
	const char *path = getenv("ZHIFU_CLOCK");
	int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
	if (file < 0)
		return;
	void *found = mmap(NULL, sizeof(int64_t), PROT_READ, MAP_SHARED, file, 0);
	close(file);
	if (found != MAP_FAILED)
		ahead = found;
}

int clock_gettime(clockid_t which, struct timespec *now)
{
	if (!get)
		get = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
	int said = get(which, now);
	if (!said && ahead && (which == CLOCK_REALTIME || which == CLOCK_REALTIME_COARSE))
		now->tv_sec += *ahead;
	return said;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
	struct timespec found;
	(void)zone;
	if (clock_gettime(CLOCK_REALTIME, &found))
		return -1;
	now->tv_sec = found.tv_sec;
	now->tv_usec = found.tv_nsec / 1000;
	return 0;
}

time_t time(time_t *kept)
{
	struct timespec found;
	if (clock_gettime(CLOCK_REALTIME, &found))
		return -1;
	if (kept)
		*kept = found.tv_sec;
	return found.tv_sec;
}

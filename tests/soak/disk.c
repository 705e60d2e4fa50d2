/* A disk that loses power: what was written and not synced is kept apart from what was (LD_PRELOAD).
 *
 * Of each database file below $ZHIFU_DISK the durable state stands in $ZHIFU_DURABLE under the same name: what was
 * written reaches it when the program syncs the file, not before. Who pulls the plug kills the program and puts the
 * durable files in place of the others. Files for shared memory (-shm) are no disk's.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILES 64
#define PATH 4096

struct range {
	off_t begin, end;
	struct range *next;
};

struct file {
	dev_t device;
	ino_t inode;
	int durable;
	char shadow[PATH];
	struct range *dirty;
};

static struct file files[FILES];
static int known;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void die(const char *what)
{
	perror(what);
	abort();
}

static void *real(const char *name)
{
	void *found = dlsym(RTLD_NEXT, name);
	if (!found)
		die(name);
	return found;
}

/* Whether a file is one of the disk's; where its durable state stands. */
static int is_ours(const char *path, char *shadow)
{
	const char *folder = getenv("ZHIFU_DISK"), *durable = getenv("ZHIFU_DURABLE"), *name = strrchr(path, '/');
	if (!folder || !durable || !name || strlen(folder) != (size_t)(name - path) || strncmp(path, folder, name - path))
		return 0;
	if (!strstr(name, ".db") || strstr(name, "-shm"))
		return 0;
	snprintf(shadow, PATH, "%s%s", durable, name);
	return 1;
}

/* With the lock held; NULL for what is not the disk's. */
static struct file *file_of(int fd)
{
	char link[64], path[PATH] = {0};
	struct stat seen;
	if (fstat(fd, &seen) || !S_ISREG(seen.st_mode))
		return NULL;
	for (int at = 0; at < known; at++)
		if (files[at].device == seen.st_dev && files[at].inode == seen.st_ino)
			return &files[at];
	struct file one = {.device = seen.st_dev, .inode = seen.st_ino, .durable = -1};
	snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
	if (readlink(link, path, sizeof path - 1) < 0 || !is_ours(path, one.shadow))
		return NULL;
	if (known == FILES)
		abort();
	files[known] = one;
	return &files[known++];
}

static void wrote(int fd, off_t begin, ssize_t size)
{
	if (size <= 0)
		return;
	pthread_mutex_lock(&lock);
	struct file *one = file_of(fd);
	if (one) {
		struct range *made = malloc(sizeof *made);
		if (!made)
			abort();
		*made = (struct range){begin, begin + size, one->dirty};
		one->dirty = made;
	}
	pthread_mutex_unlock(&lock);
}

/* With the lock held: what was written so far is durable now. */
static void keep(struct file *one, int fd)
{
	static ssize_t (*put)(int, const void *, size_t, off_t);
	static int (*cut)(int, off_t);
	static char buffer[1 << 16];
	struct stat seen;
	if (!put) {
		put = real("pwrite64");
		cut = real("ftruncate64");
	}
	if (one->durable < 0 && (one->durable = open(one->shadow, O_RDWR | O_CREAT, 0600)) < 0)
		die("open");
	while (one->dirty) {
		struct range *done = one->dirty;
		for (off_t at = done->begin; at < done->end;) {
			size_t most = done->end - at < (off_t)sizeof buffer ? done->end - at : (off_t)sizeof buffer;
			ssize_t got = pread(fd, buffer, most, at);
			if (got <= 0)
				break; /* cut off since */
			if (put(one->durable, buffer, got, at) != got)
				die("pwrite");
			at += got;
		}
		one->dirty = done->next;
		free(done);
	}
	if (fstat(fd, &seen) || cut(one->durable, seen.st_size))
		die("ftruncate");
}

/* The power goes at the sync of this number, before it makes anything durable. */
static int is_last(void)
{
	static int syncs;
	const char *at = getenv("ZHIFU_CUT_AT");
	return at && __atomic_add_fetch(&syncs, 1, __ATOMIC_SEQ_CST) == atoi(at);
}

static int synced(int fd, const char *name)
{
	int (*sync)(int) = real(name);
	pthread_mutex_lock(&lock);
	struct file *one = file_of(fd);
	pthread_mutex_unlock(&lock);
	if (one && is_last())
		raise(SIGKILL);
	int said = sync(fd);
	if (one && !said) {
		pthread_mutex_lock(&lock);
		keep(one, fd);
		pthread_mutex_unlock(&lock);
	}
	return said;
}

/* A name that goes is gone at once: file systems order that before what is synced later. Its number is used again. */
int unlink(const char *path)
{
	static int (*gone)(const char *);
	char shadow[PATH];
	if (!gone)
		gone = real("unlink");
	if (is_ours(path, shadow)) {
		pthread_mutex_lock(&lock);
		gone(shadow);
		for (int at = 0; at < known; at++)
			if (!strcmp(files[at].shadow, shadow)) {
				if (files[at].durable >= 0)
					close(files[at].durable);
				files[at--] = files[--known];
			}
		pthread_mutex_unlock(&lock);
	}
	return gone(path);
}

int fsync(int fd)
{
	return synced(fd, "fsync");
}

int fdatasync(int fd)
{
	return synced(fd, "fdatasync");
}

ssize_t pwrite64(int fd, const void *from, size_t size, off_t at)
{
	static ssize_t (*put)(int, const void *, size_t, off_t);
	if (!put)
		put = real("pwrite64");
	ssize_t said = put(fd, from, size, at);
	wrote(fd, at, said);
	return said;
}

ssize_t pwrite(int fd, const void *from, size_t size, off_t at)
{
	return pwrite64(fd, from, size, at);
}

ssize_t write(int fd, const void *from, size_t size)
{
	static ssize_t (*put)(int, const void *, size_t);
	if (!put)
		put = real("write");
	off_t at = lseek(fd, 0, SEEK_CUR);
	ssize_t said = put(fd, from, size);
	if (at >= 0)
		wrote(fd, at, said);
	return said;
}

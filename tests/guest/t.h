/* The frame of every conformance program.
 *
 * A test is a function made by TEST(name). Each runs in a child of its own, in a process group of its own, with a time limit. The
 * program prints "ok NAME", "skip NAME why" or "FAIL NAME file:line what" per test and exits with the number of failures (at most
 * 1). Lines printed by say() are compared between the host and the sandbox as they stand. argv names the tests to run.
 * T_NOFORK=1 runs the first selected test in this process, for a kernel that cannot fork yet. */
#ifndef T_H
#define T_H
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <sys/random.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

typedef void (*t_fn)(void);
static struct { const char *name; t_fn fn; int seconds; } t_cases[256];
static int t_count;
static const char *t_name = "?";
static char t_dir[128];

static void t_add(const char *name, t_fn fn, int seconds) {
  t_cases[t_count].name = name;
  t_cases[t_count].fn = fn;
  t_cases[t_count++].seconds = seconds;
}
#define TEST_FOR(name, seconds)                                                                          \
  static void name(void);                                                                                \
  __attribute__((constructor)) static void t_add_##name(void) { t_add(#name, name, seconds); }           \
  static void name(void)
#define TEST(name) TEST_FOR(name, 20)

static void t_print(const char *format, ...) {
  char line[1024];
  va_list args;
  va_start(args, format);
  int n = vsnprintf(line, sizeof line - 1, format, args);
  va_end(args);
  if (n > (int)sizeof line - 2) n = sizeof line - 2;
  line[n++] = '\n';
  ssize_t written = write(1, line, n);
  (void)written;
}
/* A line that must be the same on the host and in the sandbox. */
#define say(format, ...) t_print("   %s: " format, t_name, ##__VA_ARGS__)

#define t_fail(format, ...) (t_print("FAIL %s %s:%d " format, t_name, __FILE__, __LINE__, ##__VA_ARGS__), _exit(1))
#define CHECK(condition) do { if (!(condition)) t_fail("not %s", #condition); } while (0)
/* The call must not fail; its result. */
#define OK(call) ({ errno = 0; long t_r = (long)(call); if (t_r == -1) t_fail("%s: errno %d (%s)", #call, errno, strerror(errno)); t_r; })
/* The call must fail with this errno. */
#define ERR(call, want) do { errno = 0; long t_r = (long)(call); int t_e = errno; \
    if (t_r != -1) t_fail("%s: %ld instead of errno %d", #call, t_r, want); \
    if (t_e != (want)) t_fail("%s: errno %d instead of %d", #call, t_e, want); } while (0)
/* Both values are equal as longs. */
#define EQ(got, want) do { long t_a = (long)(got), t_b = (long)(want); if (t_a != t_b) t_fail("%s is %ld, not %ld (%s)", #got, t_a, t_b, #want); } while (0)
#define STREQ(got, want) do { const char *t_a = (got), *t_b = (want); if (strcmp(t_a, t_b)) t_fail("%s is \"%s\", not \"%s\"", #got, t_a, t_b); } while (0)
#define SKIP(why) (t_print("skip %s %s", t_name, why), _exit(77))

/* A child that runs code and exits 0; a failed CHECK in it exits 1. */
#define CHILD(...) ({ pid_t t_p = (pid_t)OK(fork()); if (t_p == 0) { __VA_ARGS__; _exit(0); } t_p; })
/* The child ends with exit status `want`. */
#define JOIN_STATUS(pid, want) do { int t_s; EQ(waitpid(pid, &t_s, 0), pid); \
    if (!WIFEXITED(t_s) || WEXITSTATUS(t_s) != (want)) t_fail("child: status 0x%x, not exit %d", t_s, want); } while (0)
#define JOIN(pid) JOIN_STATUS(pid, 0)
/* The child is ended by signal `want`. */
#define JOIN_SIGNAL(pid, want) do { int t_s; EQ(waitpid(pid, &t_s, 0), pid); \
    if (!WIFSIGNALED(t_s) || WTERMSIG(t_s) != (want)) t_fail("child: status 0x%x, not signal %d", t_s, want); } while (0)
/* Waits up to five seconds until the condition holds. */
#define AWAIT(condition) do { int t_i = 0; while (!(condition)) { if (++t_i > 5000) t_fail("never %s", #condition); t_ms(1); } } while (0)

__attribute__((unused)) static void t_ms(long ms) {
  struct timespec t = {ms / 1000, ms % 1000 * 1000000};
  while (nanosleep(&t, &t) < 0 && errno == EINTR) {}
}
__attribute__((unused)) static int64_t t_now_ms(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}
/* Makes an empty folder and goes there; it is removed after the test. */
__attribute__((unused)) static void t_in_folder(void) {
  OK(mkdir(t_dir, 0755));
  OK(chdir(t_dir));
}
__attribute__((unused)) static void t_write_file(const char *path, const char *text) {
  int fd = OK(open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644));
  EQ(write(fd, text, strlen(text)), strlen(text));
  OK(close(fd));
}
__attribute__((unused)) static const char *t_read_file(const char *path) {
  static char text[65536];
  int fd = OK(open(path, O_RDONLY));
  size_t n = 0;
  ssize_t r;
  while ((r = OK(read(fd, text + n, sizeof text - 1 - n))) > 0) n += r;
  text[n] = 0;
  OK(close(fd));
  return text;
}

static int t_remove(const char *path, const struct stat *s, int kind, struct FTW *f) {
  (void)s; (void)kind; (void)f;
  return remove(path);
}

/* The result: 0 ok, 1 failed, 77 skipped. */
static int t_run(int i) {
  t_name = t_cases[i].name;
  snprintf(t_dir, sizeof t_dir, "/tmp/guest-test.%d.%d", (int)getpid(), i);
  if (getenv("T_NOFORK")) {
    t_cases[i].fn();
    t_print("ok %s", t_name);
    return 0;
  }
  pid_t pid = fork();
  if (pid < 0) {
    t_print("FAIL %s fork: errno %d", t_name, errno);
    return 1;
  }
  if (pid == 0) {
    setpgid(0, 0);
    t_cases[i].fn();
    _exit(0);
  }
  setpgid(pid, pid);
  int64_t end = t_now_ms() + t_cases[i].seconds * 1000, nap = 1;
  int status = 0, timed_out = 0;
  while (waitpid(pid, &status, WNOHANG) == 0) {
    if (!timed_out && t_now_ms() > end) {
      timed_out = 1;
      kill(-pid, SIGKILL);
      kill(pid, SIGKILL);
      end += 5000;
    } else if (timed_out && t_now_ms() > end) {
      break;
    }
    t_ms(nap);
    if (nap < 10) nap++;
  }
  kill(-pid, SIGKILL);
  nftw(t_dir, t_remove, 16, FTW_DEPTH | FTW_PHYS);
  if (timed_out) {
    t_print("FAIL %s timed out", t_name);
    return 1;
  }
  if (WIFSIGNALED(status)) {
    t_print("FAIL %s ended by signal %d", t_name, WTERMSIG(status));
    return 1;
  }
  if (WEXITSTATUS(status) == 0) t_print("ok %s", t_name);
  return WEXITSTATUS(status);
}

#ifndef T_NO_MAIN
int main(int argc, char **argv) {
  int failed = 0;
  for (int i = 0; i < t_count; i++) {
    int wanted = argc < 2;
    for (int a = 1; a < argc; a++) wanted |= !strcmp(argv[a], t_cases[i].name);
    if (wanted) failed |= t_run(i) == 1 || 0;
  }
  return failed;
}
#endif
#endif

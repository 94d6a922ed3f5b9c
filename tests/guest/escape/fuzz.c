/* Random system calls with random arguments: whatever they do to their process, the sandbox must go on. On the host only calls that harm
 * nobody are made, as an ordinary user, in a folder of its own. The sequence of a round is that of its seed; FUZZ_SEED chooses another,
 * FUZZ_SECONDS lasts longer. */
#include "t.h"

static uint64_t state;
static uint64_t next(void) {
  state ^= state << 13;
  state ^= state >> 7;
  state ^= state << 17;
  return state * 0x2545f4914f6cdd1dull;
}
/* Calls that reach beyond their process and its folder, end the round at once, or wait for ever. */
static int spared(long n) {
  switch (n) {
  case SYS_exit: case SYS_exit_group: case SYS_pause: case SYS_rt_sigsuspend: case SYS_rt_sigreturn: case SYS_ppoll: case SYS_select:
  case SYS_kill: case SYS_tkill: case SYS_tgkill: case SYS_rt_sigqueueinfo: case SYS_rt_tgsigqueueinfo: case SYS_pidfd_send_signal:
  case SYS_reboot: case SYS_shutdown: case SYS_kexec_load: case SYS_swapon: case SYS_swapoff: case SYS_init_module: case SYS_delete_module:
  case SYS_sethostname: case SYS_setdomainname: case SYS_settimeofday: case SYS_clock_settime: case SYS_adjtimex: case SYS_clock_adjtime:
  case SYS_ptrace: case SYS_process_vm_writev: case SYS_ioperm: case SYS_iopl: case SYS_syslog: case SYS_vhangup: case SYS_bpf:
  case SYS_unlink: case SYS_unlinkat: case SYS_rmdir: case SYS_rename: case SYS_renameat: case SYS_renameat2: case SYS_truncate:
  case SYS_setsid: case SYS_setpgid: case SYS_setpriority: case SYS_ioprio_set: case SYS_migrate_pages: case SYS_move_pages:
  case SYS_sched_setscheduler: case SYS_sched_setparam: case SYS_sched_setattr: case SYS_prlimit64: case SYS_perf_event_open:
  case SYS_msgget: case SYS_semget: case SYS_shmget: case SYS_mq_open: case SYS_mq_unlink: case SYS_add_key: case SYS_keyctl:
  case SYS_request_key: case SYS_userfaultfd: case SYS_unshare: case SYS_setns: case SYS_fork: case SYS_vfork: case SYS_clone: case SYS_clone3:
  case SYS_quotactl: case SYS_acct: case SYS_sync: case SYS_syncfs: case SYS_mlockall: case SYS_process_madvise: case SYS_kcmp:
  case SYS_semop: case SYS_semtimedop: case SYS_msgrcv: case SYS_wait4: case SYS_waitid: case SYS_chroot: case SYS_pivot_root:
    return 1;
  }
  return 0;
}
/* In the sandbox these too: it is what they must not harm. */
static int spared_inside(long n) {
  switch (n) {
  case SYS_exit: case SYS_exit_group: case SYS_pause: case SYS_rt_sigsuspend: case SYS_kill: case SYS_tkill: case SYS_tgkill:
  case SYS_rt_sigqueueinfo: case SYS_rt_tgsigqueueinfo: case SYS_unlink: case SYS_unlinkat: case SYS_rename: case SYS_renameat:
  case SYS_renameat2: case SYS_setsid: case SYS_setpgid: case SYS_reboot: case SYS_chroot: case SYS_pivot_root: case SYS_prlimit64:
    return 1;
  }
  return 0;
}
static char *page, *hole;
static uint64_t argument(void) {
  static const uint64_t odd[] = {0, 1, 2, 3, 4, 7, 8, 16, 0xff, 0x1000, 0xfff, 0x7fff, 0x8000, 0xffff, 0x10000, 0x7fffffff, 0x80000000, 0xffffffff, 0x100000000,
                                 -1ull, -2ull, -100ull, -4096ull, 0x7fffffffffffffff, 0x8000000000000000, 0x7ffffffff000, 0x7fffffffe000, 0x800000000000,
                                 0xffff800000000000, 0xffffffffff600000, 0x7ffc00000000};
  uint64_t r = next();
  switch (r % 11) {
  case 0: return next();
  case 1: return next() & 0xffff;
  case 2: return 1ull << (next() % 64);
  case 3: return (1ull << (next() % 64)) - 1;
  case 4: case 5: return odd[next() % (sizeof odd / sizeof *odd)];
  case 6: return (uint64_t)page + (next() & 0xff8);
  case 7: return (uint64_t)page + 4096 - (next() % 64); /* ends in the hole */
  case 8: return (uint64_t)hole;
  case 9: return next() % 24; /* a descriptor, most likely */
  default: return next() & 7;
  }
}
/* Words that look like lengths, pointers, descriptors, flags. */
static void fill(void) {
  uint64_t *w = (uint64_t *)page;
  for (int i = 0; i < 512; i++) w[i] = next() & 1 ? argument() : 0;
  if (next() & 1) strcpy(page + 128, next() & 1 ? "file" : "/proc/self/status");
  if (next() & 1) strcpy(page, next() & 1 ? "../fuzz/file" : "/dev/null");
}
/* Descriptors of every kind, so that what takes one finds it. */
static void open_all(void) {
  int p[2], s[2];
  open("file", O_RDWR | O_CREAT, 0600);
  pipe2(p, O_NONBLOCK);
  socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, s);
  socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, s);
  socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, s);
  open(".", O_RDONLY);
  open("/proc/self/maps", O_RDONLY);
  open("/dev/ptmx", O_RDWR | O_NOCTTY | O_NONBLOCK);
  open("/dev/zero", O_RDWR);
  syscall(SYS_eventfd2, 3, O_NONBLOCK);
  syscall(SYS_timerfd_create, 1, O_NONBLOCK);
  syscall(SYS_epoll_create1, 0);
  syscall(SYS_memfd_create, "m", 0);
  sigset_t all;
  sigfillset(&all);
  syscall(SYS_signalfd4, -1, &all, 8, O_NONBLOCK);
  syscall(SYS_inotify_init1, O_NONBLOCK);
}
static void one_life(uint64_t seed, int inside, int calls) {
  state = seed;
  int null = open("/dev/null", O_RDWR);
  dup2(null, 0), dup2(null, 1), dup2(null, 2);
  close(null);
  page = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  hole = page + 4096;
  munmap(hole, 4096);
  open_all();
  for (int i = 0; i < calls; i++) {
    fill();
    long n = next() % 16 ? next() % 335 : next() % 8 ? 424 + next() % 40 : (long)next();
    if (inside ? spared_inside(n) : spared(n)) continue;
    uint64_t a[6];
    for (int k = 0; k < 6; k++) a[k] = argument();
    alarm(1); /* what blocks ends this life */
    long r = syscall(n, a[0], a[1], a[2], a[3], a[4], a[5]);
    if ((n == SYS_fork || n == SYS_vfork || n == SYS_clone || n == SYS_clone3) && r == 0) _exit(0);
  }
  _exit(0);
}
static void still_well(void) {
  pid_t c = CHILD({ _exit(5); });
  JOIN_STATUS(c, 5);
  int p[2];
  OK(pipe(p));
  EQ(write(p[1], "x", 1), 1);
  char b;
  EQ(read(p[0], &b, 1), 1);
  close(p[0]), close(p[1]);
  c = CHILD(execl("/bin/true", "true", NULL));
  JOIN(c);
}
static void lives(int as_root) {
  const char *e = getenv("T_SANDBOX"), *s = getenv("FUZZ_SEED"), *l = getenv("FUZZ_SECONDS");
  int inside = e && *e == '1';
  if (!inside && geteuid() == 0 && as_root) SKIP("on the host only as an ordinary user");
  uint64_t seed = s ? strtoull(s, 0, 0) : 0x9e3779b97f4a7c15;
  int64_t end = t_now_ms() + 1000 * (l ? atoi(l) : inside ? 15 : 2);
  t_in_folder();
  OK(mkdir("fuzz", 0777));
  OK(chmod("fuzz", 0777));
  OK(chdir("fuzz"));
  struct rlimit core = {0, 0}, files = {64, 64}, size = {1 << 20, 1 << 20}, space = {1 << 30, 1 << 30};
  OK(setrlimit(RLIMIT_CORE, &core));
  for (int round = 0; t_now_ms() < end; round++) {
    seed += 0x9e3779b97f4a7c15;
    pid_t c = fork();
    if (c == 0) {
      setrlimit(RLIMIT_NOFILE, &files), setrlimit(RLIMIT_FSIZE, &size), setrlimit(RLIMIT_AS, &space);
      setpgid(0, 0);
      if (!as_root && geteuid() == 0) setgroups(0, 0), setresgid(4321, 4321, 4321), setresuid(4321, 4321, 4321);
      if (getenv("FUZZ_SHOW")) dprintf(2, "seed 0x%lx\n", seed);
      one_life(seed | 1, inside, 200);
    }
    CHECK(c > 0);
    int status, n = 0;
    pid_t w;
    while ((w = waitpid(c, &status, WNOHANG | WUNTRACED)) == 0 || (w == c && WIFSTOPPED(status))) {
      if (++n > 300 || w == c) kill(-c, SIGKILL), kill(c, SIGKILL);
      CHECK(n < 1500);
      t_ms(10);
    }
    kill(-c, SIGKILL);
    while (waitpid(-1, 0, WNOHANG) > 0) {}
    if (round % 20 == 0) still_well();
  }
  still_well();
}
TEST_FOR(random_calls, 90) { lives(0); }
TEST_FOR(random_calls_as_root, 90) { lives(1); }

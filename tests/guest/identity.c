/* Credentials, capabilities, umask, limits, prctl, names of the system, random numbers. */
#include "t.h"
#include <grp.h>
#include <linux/capability.h>
#include <linux/membarrier.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/fsuid.h>
#include <sys/personality.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>

static void need_root(void) {
  if (geteuid()) SKIP("needs root");
}
#define IDS(r, e, s) do { uid_t a, b, c; OK(getresuid(&a, &b, &c)); EQ(a, r); EQ(b, e); EQ(c, s); } while (0)

TEST(user_ids) {
  need_root();
  pid_t c = CHILD({
    OK(setresuid(1, 2, 3));
    IDS(1, 2, 3);
    ERR(setuid(9), EPERM);
    OK(setuid(3));
    IDS(1, 3, 3);
    OK(setreuid(-1, 1));
    IDS(1, 1, 3);
    OK(seteuid(3));
    ERR(setresuid(0, -1, -1), EPERM);
    ERR(setreuid(0, 0), EPERM);
  });
  JOIN(c);
  c = CHILD({
    OK(setuid(1000));
    IDS(1000, 1000, 1000);
    ERR(setuid(0), EPERM);
  });
  JOIN(c);
  c = CHILD({
    OK(seteuid(1000));
    IDS(0, 1000, 0);
    OK(seteuid(0));
    IDS(0, 0, 0);
  });
  JOIN(c);
}
TEST(group_ids) {
  need_root();
  pid_t c = CHILD({
    gid_t g[] = {5, 6, 7};
    gid_t r[8];
    OK(setgroups(3, g));
    EQ(getgroups(0, 0), 3);
    EQ(getgroups(8, r), 3);
    EQ(r[2], 7);
    ERR(getgroups(2, r), EINVAL);
    OK(setresgid(1, 2, 3));
    EQ(getgid(), 1);
    EQ(getegid(), 2);
    OK(setresuid(9, 9, 9));
    ERR(setgroups(0, 0), EPERM);
    ERR(setgid(77), EPERM);
    OK(setgid(3));
  });
  JOIN(c);
}
TEST(fs_ids) {
  need_root();
  t_in_folder();
  OK(chmod(".", 0777));
  EQ(setfsuid(1000), 0);
  EQ(setfsuid(-1), 1000);
  OK(close(OK(open("f", O_CREAT | O_WRONLY, 0600))));
  struct stat s;
  OK(stat("f", &s));
  EQ(s.st_uid, 1000);
}
TEST(threads_share_credentials_by_the_library_only) {
  need_root();
  pid_t c = CHILD({
    OK(syscall(SYS_setresuid, 7, 7, 7));
    EQ(getuid(), 7);
  });
  JOIN(c);
}
TEST(capability_sets) {
  struct __user_cap_header_struct h = {_LINUX_CAPABILITY_VERSION_3, 0};
  struct __user_cap_data_struct d[2];
  OK(syscall(SYS_capget, &h, d));
  h.version = 1;
  ERR(syscall(SYS_capget, &h, d), EINVAL);
  EQ(h.version, _LINUX_CAPABILITY_VERSION_3);
  need_root();
  pid_t c = CHILD({
    struct __user_cap_header_struct k = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct e[2];
    OK(syscall(SYS_capget, &k, e));
    CHECK(e[0].effective & 1 << CAP_CHOWN);
    OK(setresuid(1000, 1000, 1000));
    OK(syscall(SYS_capget, &k, e));
    EQ(e[0].effective | e[0].permitted | e[1].effective, 0);
    e[0].permitted = 1;
    ERR(syscall(SYS_capset, &k, e), EPERM);
  });
  JOIN(c);
  c = CHILD({
    OK(prctl(PR_SET_KEEPCAPS, 1));
    OK(setresuid(1000, 1000, 1000));
    struct __user_cap_header_struct k = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct e[2];
    OK(syscall(SYS_capget, &k, e));
    CHECK(e[0].permitted & 1 << CAP_CHOWN);
    EQ(e[0].effective, 0);
    OK(prctl(PR_CAPBSET_READ, CAP_CHOWN));
    ERR(prctl(PR_CAPBSET_READ, 99), EINVAL);
  });
  JOIN(c);
  c = CHILD({
    OK(prctl(PR_CAPBSET_DROP, CAP_NET_RAW));
    EQ(prctl(PR_CAPBSET_READ, CAP_NET_RAW), 0);
    struct __user_cap_header_struct k = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct e[2];
    OK(syscall(SYS_capget, &k, e));
    e[0].effective &= ~(1u << CAP_CHOWN);
    e[0].permitted &= ~(1u << CAP_CHOWN);
    OK(syscall(SYS_capset, &k, e));
    t_in_folder();
    t_write_file("f", "");
    ERR(chown("f", 5, 5), EPERM);
  });
  JOIN(c);
}
TEST(umask_applies) {
  t_in_folder();
  EQ(umask(077) & ~0777, 0);
  EQ(umask(027), 077);
  OK(close(OK(open("f", O_CREAT | O_WRONLY, 0666))));
  OK(mkdir("d", 0777));
  struct stat s;
  OK(stat("f", &s));
  EQ(s.st_mode & 0777, 0640);
  OK(stat("d", &s));
  EQ(s.st_mode & 0777, 0750);
  pid_t c = CHILD({ EQ(umask(0), 027); });
  JOIN(c);
}
TEST(limits) {
  struct rlimit r, n = {64, 64}, g;
  OK(getrlimit(RLIMIT_NOFILE, &r));
  CHECK(r.rlim_cur >= 64);
  OK(setrlimit(RLIMIT_NOFILE, &n));
  OK(getrlimit(RLIMIT_NOFILE, &g));
  EQ(g.rlim_cur, 64);
  ERR(dup2(0, 64), EBADF);
  EQ(dup2(1, 63), 63);
  int fd, last = -1;
  while ((fd = dup(1)) >= 0) last = fd;
  EQ(errno, EMFILE);
  EQ(last, 62);
  n.rlim_cur = 65;
  ERR(setrlimit(RLIMIT_NOFILE, &n), EINVAL);
  ERR(getrlimit(99, &g), EINVAL);
  OK(close(62));
  OK(prlimit(0, RLIMIT_CORE, 0, &g));
  pid_t c = CHILD({
    struct rlimit k;
    OK(getrlimit(RLIMIT_NOFILE, &k));
    EQ(k.rlim_cur, 64);
  });
  JOIN(c);
}
TEST(file_size_limit) {
  t_in_folder();
  struct rlimit n = {1000, 1000};
  OK(setrlimit(RLIMIT_FSIZE, &n));
  int fd = OK(open("f", O_RDWR | O_CREAT, 0600));
  static char b[2000];
  EQ(write(fd, b, 2000), 1000);
  signal(SIGXFSZ, SIG_IGN);
  ERR(write(fd, b, 1), EFBIG);
  ERR(ftruncate(fd, 1001), EFBIG);
  pid_t c = CHILD({
    signal(SIGXFSZ, SIG_DFL);
    write(fd, b, 1);
  });
  int s;
  EQ(waitpid(c, &s, 0), c);
  CHECK(WIFSIGNALED(s) && WTERMSIG(s) == SIGXFSZ);
}
TEST(cpu_limit) {
  pid_t c = CHILD({
    struct rlimit n = {1, 2};
    OK(setrlimit(RLIMIT_CPU, &n));
    for (;;) {}
  });
  int s;
  EQ(waitpid(c, &s, 0), c);
  CHECK(WIFSIGNALED(s) && (WTERMSIG(s) == SIGXCPU || WTERMSIG(s) == SIGKILL));
}
TEST(prctl_forms) {
  char n[20] = {0};
  OK(prctl(PR_SET_NAME, "a-very-long-name-indeed"));
  OK(prctl(PR_GET_NAME, n));
  STREQ(n, "a-very-long-nam");
  STREQ(t_read_file("/proc/self/comm"), "a-very-long-nam\n");
  EQ(prctl(PR_GET_DUMPABLE), 1);
  OK(prctl(PR_SET_DUMPABLE, 0));
  EQ(prctl(PR_GET_DUMPABLE), 0);
  ERR(prctl(PR_SET_DUMPABLE, 7), EINVAL);
  int s;
  OK(prctl(PR_SET_PDEATHSIG, SIGUSR1));
  OK(prctl(PR_GET_PDEATHSIG, &s));
  EQ(s, SIGUSR1);
  ERR(prctl(PR_SET_PDEATHSIG, 99), EINVAL);
  EQ(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0));
  OK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
  EQ(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), 1);
  ERR(prctl(PR_SET_NO_NEW_PRIVS, 0, 0, 0, 0), EINVAL);
  EQ(prctl(PR_GET_TIMERSLACK), 50000);
  ERR(prctl(9999), EINVAL);
}
TEST(system_names) {
  struct utsname u;
  OK(uname(&u));
  STREQ(u.sysname, "Linux");
  STREQ(u.machine, "x86_64");
  CHECK(atoi(u.release) >= 6);
  CHECK(strlen(u.nodename) > 0 && strlen(u.version) > 0);
  char h[256];
  OK(gethostname(h, sizeof h));
  STREQ(h, u.nodename);
  ERR(uname((void *)8), EFAULT);
}
TEST(system_numbers) {
  struct sysinfo s;
  OK(sysinfo(&s));
  CHECK(s.uptime > 0 && s.procs > 0 && s.mem_unit > 0);
  CHECK((uint64_t)s.totalram * s.mem_unit > 64 << 20);
  CHECK(s.freeram <= s.totalram);
  CHECK(sysconf(_SC_NPROCESSORS_ONLN) >= 1 && sysconf(_SC_PHYS_PAGES) > 1000);
  unsigned cpu, node;
  OK(syscall(SYS_getcpu, &cpu, &node, 0));
}
TEST(random_bytes) {
  char a[64] = {0}, b[64] = {0};
  EQ(getrandom(a, 64, 0), 64);
  EQ(getrandom(b, 64, GRND_NONBLOCK), 64);
  CHECK(memcmp(a, b, 64));
  EQ(getrandom(a, 0, 0), 0);
  ERR(getrandom(a, 8, 0x80), EINVAL);
  ERR(getrandom((void *)8, 64, 0), EFAULT);
  static char big[1 << 20];
  EQ(getrandom(big, sizeof big, 0), sizeof big);
}
TEST(memory_barriers) {
  long mask = syscall(SYS_membarrier, MEMBARRIER_CMD_QUERY, 0, 0);
  if (mask < 0) {
    EQ(errno, ENOSYS);
    return;
  }
  if (mask & MEMBARRIER_CMD_PRIVATE_EXPEDITED) {
    OK(syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0));
    OK(syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0));
  }
  ERR(syscall(SYS_membarrier, 1 << 30, 0, 0), EINVAL);
}
TEST(unknown_calls) {
  ERR(syscall(9999), ENOSYS);
  ERR(syscall(-1), ENOSYS);
  ERR(syscall(0x40000000 | SYS_getpid), ENOSYS);
  ERR(syscall(400), ENOSYS);
}
TEST(personality_and_priority) {
  EQ(personality(0xffffffff), 0);
  /* Whoever started the tests may have been nice. */
  int before = getpriority(PRIO_PROCESS, 0);
  OK(setpriority(PRIO_PROCESS, 0, before + 5));
  EQ(getpriority(PRIO_PROCESS, 0), before + 5);
  EQ(nice(2), before + 7);
  EQ(sched_getscheduler(0), SCHED_OTHER);
  EQ(sched_get_priority_max(SCHED_FIFO), 99);
  EQ(sched_get_priority_min(SCHED_OTHER), 0);
  ERR(getpriority(9, 0), EINVAL);
  OK(sched_yield());
}
TEST(no_new_privs_stops_set_id) {
  need_root();
  t_in_folder();
  OK(chmod(".", 0755));
  int in = OK(open("/usr/bin/id", O_RDONLY)), out = OK(open("id", O_WRONLY | O_CREAT, 0755));
  static char b[65536];
  ssize_t n;
  while ((n = read(in, b, sizeof b)) > 0) EQ(write(out, b, n), n);
  OK(close(out));
  OK(chown("id", 1111, 1111));
  OK(chmod("id", 04755));
  int p[2];
  OK(pipe(p));
  pid_t c = CHILD({
    OK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
    OK(setresuid(3333, 3333, 3333));
    dup2(p[1], 1);
    execl("./id", "id", "-u", NULL);
  });
  JOIN(c);
  char t[16] = {0};
  OK(read(p[0], t, 15));
  STREQ(t, "3333\n");
}

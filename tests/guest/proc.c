/* /proc: what programs read there. */
#include "t.h"

static const char *field(const char *text, const char *name) {
  static char value[256];
  const char *p = strstr(text, name);
  if (!p) t_fail("no %s", name);
  p += strlen(name);
  while (*p == ' ' || *p == '\t' || *p == ':') p++;
  size_t n = strcspn(p, "\n");
  snprintf(value, sizeof value, "%.*s", (int)n, p);
  return value;
}

TEST(self_links) {
  char b[256] = {0};
  OK(readlink("/proc/self", b, 255));
  EQ(atoi(b), getpid());
  memset(b, 0, 256);
  OK(readlink("/proc/thread-self", b, 255));
  char w[64];
  snprintf(w, sizeof w, "%d/task/%d", getpid(), gettid());
  STREQ(b, w);
  memset(b, 0, 256);
  OK(readlink("/proc/self/exe", b, 255));
  CHECK(b[0] == '/' && strstr(b, "proc"));
  t_in_folder();
  memset(b, 0, 256);
  OK(readlink("/proc/self/cwd", b, 255));
  STREQ(b, t_dir);
  memset(b, 0, 256);
  OK(readlink("/proc/self/root", b, 255));
  STREQ(b, "/");
}
TEST(stat_fields) {
  char comm[64], state;
  int pid, ppid, pgrp, sid;
  EQ(sscanf(t_read_file("/proc/self/stat"), "%d (%63[^)]) %c %d %d %d", &pid, comm, &state, &ppid, &pgrp, &sid), 6);
  EQ(pid, getpid());
  EQ(state, 'R');
  EQ(ppid, getppid());
  EQ(pgrp, getpgrp());
  EQ(sid, getsid(0));
  int fields = 0;
  for (char *p = strrchr(t_read_file("/proc/self/stat"), ')') + 1; *p; p++) fields += *p == ' ';
  EQ(fields, 50); /* 52 fields: pid and comm before */
}
TEST(status_fields) {
  const char *t = strdup(t_read_file("/proc/self/status"));
  EQ(atoi(field(t, "\nPid:")), getpid());
  EQ(atoi(field(t, "\nTgid:")), getpid());
  EQ(atoi(field(t, "\nPPid:")), getppid());
  EQ(atoi(field(t, "\nUid:")), getuid());
  EQ(atoi(field(t, "\nThreads:")), 1);
  CHECK(atoi(field(t, "\nVmSize:")) > 0);
  CHECK(atoi(field(t, "\nVmRSS:")) > 0);
  CHECK(strstr(t, "State:\tR (running)"));
  const char *names[] = {"Name", "Umask", "Groups", "FDSize", "SigQ", "SigPnd", "ShdPnd", "SigBlk", "SigIgn", "SigCgt", "CapInh", "CapPrm", "CapEff", "CapBnd", "NoNewPrivs", "Seccomp", "Cpus_allowed_list", "voluntary_ctxt_switches"};
  for (unsigned i = 0; i < sizeof names / sizeof *names; i++) field(t, names[i]);
}
TEST(signal_sets_in_status) {
  signal(SIGUSR1, SIG_IGN);
  signal(SIGUSR2, exit);
  sigset_t m;
  sigemptyset(&m);
  sigaddset(&m, SIGTERM);
  OK(sigprocmask(SIG_BLOCK, &m, 0));
  OK(raise(SIGTERM));
  const char *t = strdup(t_read_file("/proc/self/status"));
  EQ(strtoul(field(t, "SigBlk"), 0, 16), 1 << 14);
  EQ(strtoul(field(t, "SigPnd"), 0, 16) | strtoul(field(t, "ShdPnd"), 0, 16), 1 << 14);
  CHECK(strtoul(field(t, "SigIgn"), 0, 16) & 1 << 9);
  CHECK(strtoul(field(t, "SigCgt"), 0, 16) & 1 << 11);
}
TEST(cmdline_environ_comm) {
  pid_t c = CHILD({
    char *a[] = {"sleep", "30", NULL};
    char *e[] = {"X=1", "Y=2", NULL};
    execve("/bin/sleep", a, e);
  });
  char n[64];
  snprintf(n, sizeof n, "/proc/%d/comm", c);
  AWAIT(!strcmp(t_read_file(n), "sleep\n"));
  snprintf(n, sizeof n, "/proc/%d/cmdline", c);
  CHECK(!memcmp(t_read_file(n), "sleep\0" "30\0", 10));
  snprintf(n, sizeof n, "/proc/%d/environ", c);
  CHECK(!memcmp(t_read_file(n), "X=1\0Y=2\0", 9));
  snprintf(n, sizeof n, "/proc/%d/exe", c);
  char b[100] = {0};
  OK(readlink(n, b, 99));
  CHECK(strstr(b, "sleep"));
  OK(kill(c, SIGKILL));
  AWAIT(({ snprintf(n, sizeof n, "/proc/%d/stat", c); strchr(t_read_file(n), ')')[2] == 'Z'; }));
  snprintf(n, sizeof n, "/proc/%d/cmdline", c);
  STREQ(t_read_file(n), "");
  JOIN_SIGNAL(c, SIGKILL);
  struct stat s;
  snprintf(n, sizeof n, "/proc/%d", c);
  ERR(stat(n, &s), ENOENT);
}
TEST(descriptors) {
  t_in_folder();
  int f = OK(open("f", O_RDWR | O_CREAT | O_APPEND, 0600));
  EQ(write(f, "abc", 3), 3);
  char n[64], b[256] = {0}, w[256];
  snprintf(n, sizeof n, "/proc/self/fd/%d", f);
  OK(readlink(n, b, 255));
  snprintf(w, sizeof w, "%s/f", t_dir);
  STREQ(b, w);
  snprintf(n, sizeof n, "/proc/self/fdinfo/%d", f);
  const char *t = strdup(t_read_file(n));
  EQ(atoi(field(t, "pos")), 3);
  CHECK(strtoul(field(t, "flags"), 0, 8) & O_APPEND);
  snprintf(n, sizeof n, "/proc/self/fd/%d", f);
  int again = OK(open(n, O_RDONLY));
  EQ(lseek(again, 0, SEEK_CUR), 0);
  OK(unlink("f"));
  memset(b, 0, 256);
  OK(readlink(n, b, 255));
  strcat(w, " (deleted)");
  STREQ(b, w);
  DIR *d = opendir("/proc/self/fd");
  int count = 0;
  struct dirent *e;
  while ((e = readdir(d))) count += e->d_name[0] != '.';
  CHECK(count >= 5);
  OK(close(f));
  ERR(open(n, O_RDONLY), ENOENT);
}
TEST(maps_show_mappings) {
  t_in_folder();
  int fd = OK(open("mapped", O_RDWR | O_CREAT, 0600));
  OK(ftruncate(fd, 8192));
  char *p = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), *q = mmap(0, 4096, PROT_READ, MAP_PRIVATE, fd, 4096);
  mprotect(p, 4096, PROT_READ);
  const char *t = t_read_file("/proc/self/maps");
  char w[200];
  snprintf(w, sizeof w, "%lx-%lx r--s 00000000", (long)p, (long)p + 4096);
  if (!strstr(t, w)) t_fail("no %s", w);
  snprintf(w, sizeof w, "%lx-%lx rw-s 00001000", (long)p + 4096, (long)p + 8192);
  if (!strstr(t, w)) t_fail("no %s", w);
  snprintf(w, sizeof w, "%lx-%lx r--p 00001000", (long)q, (long)q + 4096);
  if (!strstr(t, w)) t_fail("no %s", w);
  CHECK(strstr(t, "/mapped\n"));
  CHECK(strstr(t, "[stack]") && strstr(t, "[heap]") && strstr(t, "[vdso]"));
  unsigned long last = 0, a, b;
  char prot[8];
  for (const char *l = t; *l; l = strchr(l, '\n') + 1) {
    EQ(sscanf(l, "%lx-%lx %7s", &a, &b, prot), 3);
    CHECK(a >= last && b > a);
    last = b;
  }
  unsigned long here = (unsigned long)&field;
  int seen = 0;
  for (const char *l = t; *l; l = strchr(l, '\n') + 1) {
    sscanf(l, "%lx-%lx %7s", &a, &b, prot);
    if (here >= a && here < b) seen = prot[2] == 'x';
  }
  CHECK(seen);
}
TEST(maps_hide_the_machinery) {
  const char *t = t_read_file("/proc/self/maps");
  CHECK(!strstr(t, "memfd:") && !strstr(t, "stub") && !strstr(t, "runsc"));
  for (const char *l = t; *l; l = strchr(l, '\n') + 1) {
    unsigned long a;
    sscanf(l, "%lx", &a);
    CHECK(a < 0x800000000000 || strstr(l, "vsyscall"));
  }
}
TEST(statm_and_limits) {
  long size, resident;
  EQ(sscanf(t_read_file("/proc/self/statm"), "%ld %ld", &size, &resident), 2);
  CHECK(size > 0 && resident > 0 && resident <= size);
  CHECK(strstr(t_read_file("/proc/self/limits"), "Max open files"));
  CHECK(strlen(t_read_file("/proc/self/cgroup")) > 0);
  CHECK(strstr(t_read_file("/proc/self/mountinfo"), " / "));
  t_read_file("/proc/self/oom_score_adj");
}
TEST(tasks) {
  DIR *d = opendir("/proc/self/task");
  CHECK(d);
  int n = 0;
  struct dirent *e;
  while ((e = readdir(d)))
    if (e->d_name[0] != '.') {
      EQ(atoi(e->d_name), getpid());
      n++;
    }
  EQ(n, 1);
}
TEST(listing_of_processes) {
  pid_t c = CHILD(pause());
  DIR *d = opendir("/proc");
  int me = 0, child = 0, first = 0;
  struct dirent *e;
  while ((e = readdir(d))) {
    me |= atoi(e->d_name) == getpid();
    child |= atoi(e->d_name) == c;
    first |= atoi(e->d_name) == 1;
  }
  CHECK(me && child && first);
  OK(kill(c, SIGKILL));
  JOIN_SIGNAL(c, SIGKILL);
}
TEST(meminfo) {
  const char *t = strdup(t_read_file("/proc/meminfo"));
  long total = atol(field(t, "MemTotal")), left = atol(field(t, "MemFree")), available = atol(field(t, "MemAvailable"));
  CHECK(total > 65536 && left > 0 && left <= total && available > 0 && available <= total);
  const char *names[] = {"Buffers", "Cached", "SwapTotal", "SwapFree", "Active", "Inactive", "Shmem", "Slab"};
  for (unsigned i = 0; i < sizeof names / sizeof *names; i++) field(t, names[i]);
  CHECK(strstr(t, " kB\n"));
}
TEST(cpuinfo) {
  const char *t = strdup(t_read_file("/proc/cpuinfo"));
  int n = 0;
  for (const char *p = t; (p = strstr(p, "processor\t:")); p++) n++;
  EQ(n, sysconf(_SC_NPROCESSORS_ONLN));
  CHECK(strstr(field(t, "\nflags"), "sse2"));
  field(t, "\nmodel name");
  field(t, "\ncpu MHz");
}
TEST(system_files) {
  double up, idle;
  EQ(sscanf(t_read_file("/proc/uptime"), "%lf %lf", &up, &idle), 2);
  CHECK(up > 0);
  CHECK(!strncmp(t_read_file("/proc/version"), "Linux version ", 14));
  float a, b, c;
  int r, n;
  EQ(sscanf(t_read_file("/proc/loadavg"), "%f %f %f %d/%d", &a, &b, &c, &r, &n), 5);
  const char *s = strdup(t_read_file("/proc/stat"));
  CHECK(!strncmp(s, "cpu ", 4));
  field(s, "\nbtime");
  field(s, "\nprocesses");
  CHECK(strstr(t_read_file("/proc/mounts"), " / "));
  CHECK(strstr(t_read_file("/proc/self/mounts"), " /proc proc "));
  CHECK(strstr(t_read_file("/proc/filesystems"), "tmpfs"));
  EQ(atoi(t_read_file("/proc/sys/kernel/pid_max")) > 100, 1);
  CHECK(atoi(t_read_file("/proc/sys/kernel/osrelease")) >= 6);
  STREQ(t_read_file("/proc/sys/kernel/ostype"), "Linux\n");
  t_read_file("/proc/sys/kernel/hostname");
  t_read_file("/proc/sys/vm/overcommit_memory");
  EQ(strlen(t_read_file("/proc/sys/kernel/random/boot_id")), 37);
}
TEST(small_reads_and_seeks) {
  int fd = OK(open("/proc/self/status", O_RDONLY));
  char whole[8192] = {0}, parts[8192] = {0};
  ssize_t n = OK(pread(fd, whole, sizeof whole - 1, 0)), at = 0, r;
  while ((r = OK(read(fd, parts + at, 7))) > 0) at += r;
  CHECK(n > 100 && at > 100);
  CHECK(!strncmp(whole, parts, 20));
  EQ(lseek(fd, 0, SEEK_SET), 0);
  EQ(read(fd, parts, 5), 5);
  CHECK(!strncmp(parts, "Name:", 5));
  ERR(write(fd, "x", 1), EBADF);
  ERR(open("/proc/self/nothing", O_RDONLY), ENOENT);
  ERR(open("/proc/new", O_CREAT | O_WRONLY, 0600), ENOENT);
  ERR(mkdir("/proc/x", 0700), ENOENT);
}
TEST(memory_file) {
  int fd = open("/proc/self/mem", O_RDWR);
  if (fd < 0) SKIP("no /proc/self/mem");
  static char secret[] = "old value";
  char b[16];
  EQ(pread(fd, b, 10, (off_t)(uintptr_t)secret), 10);
  STREQ(b, "old value");
  EQ(pwrite(fd, "new", 3, (off_t)(uintptr_t)secret), 3);
  STREQ(*(char *volatile *)&(char *){secret}, "new value");
  ERR(pread(fd, b, 10, 0), EIO);
}
TEST(other_users_processes) {
  if (geteuid()) SKIP("needs root");
  pid_t root = CHILD(pause());
  pid_t c = CHILD({
    OK(setresgid(1000, 1000, 1000));
    OK(setresuid(1000, 1000, 1000));
    char n[64];
    char b[64];
    snprintf(n, sizeof n, "/proc/%d/exe", root);
    ERR(readlink(n, b, 64), EACCES);
    snprintf(n, sizeof n, "/proc/%d/fd", root);
    ERR(open(n, O_RDONLY), EACCES);
    snprintf(n, sizeof n, "/proc/%d/stat", root);
    t_read_file(n);
    snprintf(n, sizeof n, "/proc/%d/environ", root);
    ERR(open(n, O_RDONLY), EACCES);
  });
  JOIN(c);
  OK(kill(root, SIGKILL));
  JOIN_SIGNAL(root, SIGKILL);
}
TEST(namespace_files) {
  const char *kinds[] = {"cgroup", "ipc", "mnt", "net", "pid", "user", "uts"};
  for (unsigned i = 0; i < sizeof kinds / sizeof *kinds; i++) {
    char n[64], b[64] = {0}, want[32];
    snprintf(n, sizeof n, "/proc/self/ns/%s", kinds[i]);
    OK(readlink(n, b, sizeof b - 1));
    snprintf(want, sizeof want, "%s:[", kinds[i]);
    CHECK(!strncmp(b, want, strlen(want)));
    struct stat s, t;
    OK(stat(n, &s));
    CHECK(S_ISREG(s.st_mode));
    EQ(s.st_ino, strtoul(b + strlen(want), 0, 10));
    int fd = OK(open(n, O_RDONLY));
    OK(fstat(fd, &t));
    EQ(s.st_dev, t.st_dev);
    EQ(s.st_ino, t.st_ino);
    char c;
    ERR(read(fd, &c, 1), EINVAL);
    OK(close(fd));
  }
}
TEST(summary_of_maps) {
  const char *t = t_read_file("/proc/self/smaps_rollup");
  CHECK(strstr(t, "[rollup]\n"));
  CHECK(atoi(field(t, "\nRss:")) > 0);
  CHECK(atoi(field(t, "\nPrivate_Dirty:")) > 0);
}

/* fork, vfork, clone, the wait family, groups and sessions. */
#include "t.h"
#include <sys/prctl.h>
#include <linux/sched.h>

TEST(fork_returns) {
  pid_t me = getpid();
  pid_t c = CHILD({
    EQ(getppid(), me);
    CHECK(getpid() != me);
    EQ(getpid(), gettid());
  });
  CHECK(c > 0);
  JOIN(c);
}
TEST(memory_is_copied) {
  static int value = 1;
  char *heap = malloc(1 << 20);
  memset(heap, 7, 1 << 20);
  pid_t c = CHILD({
    EQ(value, 1);
    value = 2;
    for (int i = 0; i < 1 << 20; i += 4096) EQ(heap[i], 7);
    memset(heap, 8, 1 << 20);
  });
  JOIN(c);
  EQ(value, 1);
  EQ(heap[12345], 7);
}
TEST(files_are_shared) {
  t_in_folder();
  int fd = OK(open("a", O_RDWR | O_CREAT, 0600));
  pid_t c = CHILD({
    EQ(write(fd, "abc", 3), 3);
    OK(close(fd));
  });
  JOIN(c);
  EQ(lseek(fd, 0, SEEK_CUR), 3);
}
TEST(exit_statuses) {
  for (int i = 0; i < 256; i += 51) {
    pid_t c = CHILD({ _exit(i); });
    JOIN_STATUS(c, i);
  }
  pid_t c = CHILD({ _exit(256 + 7); });
  JOIN_STATUS(c, 7);
}
TEST(wait_edges) {
  ERR(wait(0), ECHILD);
  ERR(waitpid(-1, 0, WNOHANG), ECHILD);
  pid_t c = CHILD(pause());
  EQ(waitpid(c, 0, WNOHANG), 0);
  ERR(waitpid(getpid(), 0, 0), ECHILD);
  ERR(waitpid(c, 0, 0x100), EINVAL);
  OK(kill(c, SIGTERM));
  JOIN_SIGNAL(c, SIGTERM);
  ERR(waitpid(c, 0, 0), ECHILD);
}
static volatile sig_atomic_t told;
static void tell(int s) { (void)s; told++; }
/* SIGCHLD is there when wait returns, and the child is waitable when SIGCHLD is there. */
TEST_FOR(sigchld_and_wait_agree, 60) {
  signal(SIGCHLD, tell);
  for (int i = 0; i < 100; i++) {
    told = 0;
    pid_t c = CHILD({ _exit(1); });
    pid_t r;
    while ((r = waitpid(c, 0, i % 2 ? 0 : WNOHANG)) == 0) {
      if (told) EQ(r = waitpid(c, 0, WNOHANG), c);
      if (r) break;
    }
    if (r < 0) JOIN_STATUS(c, 1);
    EQ(told, 1);
  }
}
/* A process and its child die at the same moment: nobody but them. */
TEST_FOR(parent_and_child_die_together, 60) {
  for (int i = 0; i < 50; i++) {
    int p[2];
    OK(pipe(p));
    pid_t c = CHILD({
      setpgid(0, 0);
      if (!fork()) {
        write(p[1], "x", 1);
        for (;;) pause();
      }
      pause();
    });
    char b;
    EQ(read(p[0], &b, 1), 1);
    OK(kill(-c, SIGKILL));
    JOIN_SIGNAL(c, SIGKILL);
    close(p[0]);
    close(p[1]);
  }
}
TEST(waitid_forms) {
  pid_t c = CHILD({ _exit(5); });
  siginfo_t i = {0};
  OK(waitid(P_PID, c, &i, WEXITED | WNOWAIT));
  EQ(i.si_pid, c);
  EQ(i.si_code, CLD_EXITED);
  EQ(i.si_status, 5);
  EQ(i.si_signo, SIGCHLD);
  i.si_pid = 0;
  OK(waitid(P_ALL, 0, &i, WEXITED));
  EQ(i.si_pid, c);
  ERR(waitid(P_PID, c, &i, WEXITED), ECHILD);
  ERR(waitid(P_PID, c, &i, 0), EINVAL);
  c = CHILD(raise(SIGKILL));
  OK(waitid(P_PGID, getpgrp(), &i, WEXITED));
  EQ(i.si_code, CLD_KILLED);
  EQ(i.si_status, SIGKILL);
}
TEST(stop_and_continue) {
  pid_t c = CHILD({
    raise(SIGSTOP);
    t_ms(100); /* an end that comes first would hide the continuing, on any kernel */
    _exit(4);
  });
  int s;
  EQ(waitpid(c, &s, WUNTRACED), c);
  CHECK(WIFSTOPPED(s) && WSTOPSIG(s) == SIGSTOP);
  EQ(waitpid(c, &s, WUNTRACED | WNOHANG), 0);
  OK(kill(c, SIGCONT));
  EQ(waitpid(c, &s, WCONTINUED), c);
  CHECK(WIFCONTINUED(s));
  JOIN_STATUS(c, 4);
}
TEST(stopped_child_can_be_killed) {
  pid_t c = CHILD({
    raise(SIGSTOP);
    pause();
  });
  int s;
  EQ(waitpid(c, &s, WUNTRACED), c);
  OK(kill(c, SIGTERM)); /* stays pending while stopped */
  EQ(waitpid(c, &s, WNOHANG), 0);
  OK(kill(c, SIGKILL));
  JOIN_SIGNAL(c, SIGKILL);
}
TEST(sigchld_ignored_reaps) {
  signal(SIGCHLD, SIG_IGN);
  pid_t c = CHILD({});
  ERR(waitpid(c, 0, 0), ECHILD); /* waits for the end, then none */
  struct sigaction a = {.sa_handler = SIG_DFL, .sa_flags = SA_NOCLDWAIT};
  OK(sigaction(SIGCHLD, &a, 0));
  c = CHILD({});
  ERR(waitpid(c, 0, 0), ECHILD);
}
static volatile int chld;
static void on_child(int s) { (void)s; chld++; }
TEST(nocldstop) {
  struct sigaction a = {.sa_handler = on_child, .sa_flags = SA_NOCLDSTOP};
  OK(sigaction(SIGCHLD, &a, 0));
  pid_t c = CHILD({
    raise(SIGSTOP);
    _exit(0);
  });
  int s;
  while (waitpid(c, &s, WUNTRACED) < 0) {}
  CHECK(WIFSTOPPED(s));
  EQ(chld, 0);
  OK(kill(c, SIGCONT));
  while (waitpid(c, &s, 0) < 0) EQ(errno, EINTR);
  EQ(chld, 1);
}
TEST(orphans_go_to_a_subreaper) {
  OK(prctl(PR_SET_CHILD_SUBREAPER, 1));
  int p[2];
  OK(pipe(p));
  pid_t c = CHILD({
    pid_t g = CHILD({
      char b;
      read(p[0], &b, 1);
      _exit(getppid() == 1 ? 1 : 33);
    });
    _exit(g < 0);
  });
  JOIN(c);
  EQ(write(p[1], "x", 1), 1);
  int s;
  CHECK(waitpid(-1, &s, 0) > 0);
  EQ(WEXITSTATUS(s), 33);
}
TEST(parent_death_signal) {
  int p[2];
  OK(pipe(p));
  pid_t c = CHILD({
    CHILD({
      OK(prctl(PR_SET_PDEATHSIG, SIGKILL));
      EQ(write(p[1], "x", 1), 1);
      pause();
    });
    char b;
    EQ(read(p[0], &b, 1), 1);
  });
  JOIN(c);
  OK(close(p[1]));
  char b;
  EQ(read(p[0], &b, 1), 0); /* the grandchild is gone, its end of the pipe too */
}
TEST(vfork_shares_and_waits) {
  static volatile int shared;
  int64_t t = t_now_ms();
  pid_t c = vfork();
  if (!c) {
    shared = 77;
    struct timespec n = {0, 50000000};
    nanosleep(&n, 0);
    _exit(0);
  }
  CHECK(c > 0);
  EQ(shared, 77);
  CHECK(t_now_ms() - t >= 49);
  JOIN(c);
}
TEST(vfork_child_killed) {
  pid_t c = vfork();
  if (!c) {
    kill(getpid(), SIGKILL);
    _exit(0);
  }
  JOIN_SIGNAL(c, SIGKILL);
}
static int in_clone(void *a) {
  *(volatile int *)a = 5;
  return 42;
}
TEST(clone_vm_without_thread) {
  static char stack[65536] __attribute__((aligned(16)));
  static volatile int v;
  pid_t c = OK(clone(in_clone, stack + sizeof stack, CLONE_VM | SIGCHLD, (void *)&v));
  JOIN_STATUS(c, 42);
  EQ(v, 5);
}
TEST(clone_files_and_fs) {
  t_in_folder();
  OK(mkdir("d", 0700));
  static char stack[65536] __attribute__((aligned(16)));
  int go(void *a) {
    (void)a;
    chdir("d");
    close(50);
    return 0;
  }
  EQ(dup2(1, 50), 50);
  pid_t c = OK(clone(go, stack + sizeof stack, CLONE_VM | CLONE_FS | CLONE_FILES | SIGCHLD, 0));
  JOIN(c);
  ERR(fcntl(50, F_GETFD), EBADF);
  char b[PATH_MAX];
  CHECK(getcwd(b, sizeof b));
  STREQ(strrchr(b, '/'), "/d");
}
TEST(clone_without_sigchld) {
  static char stack[65536] __attribute__((aligned(16)));
  static volatile int v;
  pid_t c = OK(clone(in_clone, stack + sizeof stack, CLONE_VM, (void *)&v));
  ERR(waitpid(c, 0, 0), ECHILD);
  int s;
  EQ(waitpid(c, &s, __WCLONE), c);
  EQ(WEXITSTATUS(s), 42);
}
TEST(clone_tids) {
  pid_t parent = 0, child = 0;
  pid_t c = syscall(SYS_clone, CLONE_PARENT_SETTID | CLONE_CHILD_SETTID | SIGCHLD, 0, &parent, &child, 0);
  if (!c) _exit(child == syscall(SYS_getpid) ? 0 : 1);
  EQ(parent, c);
  EQ(child, 0);
  JOIN(c);
}
TEST(clone_refusals) {
  ERR(syscall(SYS_clone, CLONE_THREAD, 0, 0, 0, 0), EINVAL);
  ERR(syscall(SYS_clone, CLONE_SIGHAND, 0, 0, 0, 0), EINVAL);
  ERR(syscall(SYS_clone, CLONE_FS | CLONE_NEWNS | SIGCHLD, 0, 0, 0, 0), EINVAL);
}
TEST(clone3_forms) {
  struct clone_args a = {.exit_signal = SIGCHLD};
  pid_t c = syscall(SYS_clone3, &a, sizeof a);
  if (c < 0 && errno == ENOSYS) SKIP("no clone3");
  if (!c) _exit(9);
  JOIN_STATUS(c, 9);
  int fd = -1;
  a.flags = CLONE_PIDFD;
  a.pidfd = (uintptr_t)&fd;
  c = syscall(SYS_clone3, &a, sizeof a);
  if (!c) _exit(8);
  CHECK(fd >= 0);
  struct pollfd p = {fd, POLLIN, 0};
  EQ(poll(&p, 1, 5000), 1);
  siginfo_t i;
  OK(waitid(3 /* P_PIDFD */, fd, &i, WEXITED));
  EQ(i.si_status, 8);
  ERR(syscall(SYS_clone3, &a, 8), EINVAL);
}
TEST(process_groups) {
  EQ(getpgrp(), getpid()); /* the frame made it so */
  pid_t me = getpid(), c = CHILD({
    EQ(getpgrp(), me);
    OK(setpgid(0, 0));
    EQ(getpgrp(), getpid());
    EQ(getpgid(0), getpid());
    pause();
  });
  AWAIT(getpgid(c) == c);
  ERR(waitpid(0, 0, WNOHANG), ECHILD);
  EQ(waitpid(-c, 0, WNOHANG), 0);
  OK(kill(-c, SIGTERM));
  int s;
  EQ(waitpid(-c, &s, 0), c);
  ERR(setpgid(getpid(), 99999), EPERM);
  ERR(setpgid(99999, 0), ESRCH);
  ERR(setpgid(0, -1), EINVAL);
  ERR(getpgid(99999), ESRCH);
}
TEST(setpgid_after_exec) {
  int p[2];
  OK(pipe2(p, O_CLOEXEC));
  pid_t c = CHILD({ execl("/bin/sleep", "sleep", "10", NULL); });
  OK(close(p[1]));
  char b;
  EQ(read(p[0], &b, 1), 0);
  ERR(setpgid(c, c), EACCES);
  OK(kill(c, SIGKILL));
  JOIN_SIGNAL(c, SIGKILL);
}
TEST(sessions) {
  ERR(setsid(), EPERM); /* a group leader */
  pid_t sid = getsid(0), c = CHILD({
    EQ(getsid(0), sid);
    pid_t n = OK(setsid());
    EQ(n, getpid());
    EQ(getsid(0), n);
    EQ(getpgrp(), n);
    ERR(open("/dev/tty", O_RDWR), ENXIO);
    ERR(setpgid(0, 0), EPERM);
  });
  JOIN(c);
}
TEST(orphaned_stopped_group_gets_hup_cont) {
  int p[2];
  OK(pipe(p));
  pid_t c = CHILD({
    OK(setsid()); /* whoever adopts is in another session */
    pid_t g = CHILD({
      OK(setpgid(0, 0));
      signal(SIGHUP, SIG_IGN);
      raise(SIGSTOP); /* continued when its parent ends */
      EQ(write(p[1], "c", 1), 1);
    });
    int s;
    EQ(waitpid(g, &s, WUNTRACED), g);
  });
  JOIN(c);
  OK(close(p[1]));
  char b;
  EQ(read(p[0], &b, 1), 1);
}
TEST_FOR(many_children, 60) {
  pid_t c[100];
  for (int i = 0; i < 100; i++) c[i] = CHILD({ _exit(i); });
  int seen = 0;
  for (int i = 0; i < 100; i++) {
    int s;
    pid_t p = OK(wait(&s));
    CHECK(WIFEXITED(s));
    EQ(c[WEXITSTATUS(s)], p);
    seen++;
  }
  EQ(seen, 100);
  ERR(wait(0), ECHILD);
}
TEST_FOR(fork_chain, 60) {
  int p[2];
  OK(pipe(p));
  pid_t c = CHILD({
    for (int depth = 0; depth < 20; depth++) {
      pid_t n = OK(fork());
      if (n) {
        JOIN(n);
        _exit(0);
      }
    }
    EQ(write(p[1], "d", 1), 1);
  });
  JOIN(c);
  char b;
  EQ(read(p[0], &b, 1), 1);
}
TEST(rusage_of_children) {
  pid_t c = CHILD({
    volatile long n = 0;
    for (long i = 0; i < 100000000; i++) n += i;
  });
  struct rusage r;
  int s;
  EQ(wait4(c, &s, 0, &r), c);
  CHECK(r.ru_utime.tv_sec || r.ru_utime.tv_usec > 1000);
  OK(getrusage(RUSAGE_CHILDREN, &r));
  CHECK(r.ru_utime.tv_sec || r.ru_utime.tv_usec > 1000);
  CHECK(r.ru_maxrss >= 0); /* a child too short-lived to be sampled has 0 */
}
TEST(pidfds) {
  pid_t c = CHILD(pause());
  int fd = syscall(SYS_pidfd_open, c, 0);
  if (fd < 0 && errno == ENOSYS) SKIP("no pidfd_open");
  CHECK(fd >= 0);
  struct pollfd p = {fd, POLLIN, 0};
  EQ(poll(&p, 1, 0), 0);
  OK(syscall(SYS_pidfd_send_signal, fd, SIGTERM, 0, 0));
  EQ(poll(&p, 1, 5000), 1);
  JOIN_SIGNAL(c, SIGTERM);
  ERR(syscall(SYS_pidfd_send_signal, fd, SIGTERM, 0, 0), ESRCH);
  ERR(syscall(SYS_pidfd_open, -1, 0), EINVAL);
}

/* What one user may learn of and do to another's processes, and what a set-user-id program is protected from. Root only. */
#include "t.h"
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/sem.h>

static void become(int uid) {
  OK(setresgid(uid, uid, uid));
  OK(setresuid(uid, uid, uid));
}
#define ROOT_ONLY do { if (geteuid() != 0) SKIP("not root"); } while (0)
#define USER 4321

/* A copy of this program that belongs to root and has the set-user-id bit; run with `what` it shows what it is. */
static void make_program(int mode) {
  int in = OK(open("/proc/self/exe", O_RDONLY)), out = OK(open("program", O_CREAT | O_WRONLY | O_EXCL, 0700));
  char buf[65536];
  ssize_t n;
  while ((n = OK(read(in, buf, sizeof buf))) > 0) EQ(write(out, buf, n), n);
  OK(fchmod(out, mode));
  OK(close(out));
  OK(close(in));
  OK(chmod(".", 0755));
}
static void run_program(const char *what) {
  setenv("PRIVILEGES", what, 1);
  setenv("T_NOFORK", "1", 1);
  execl("./program", "program", "itself", NULL);
  _exit(99);
}
/* What the program does when it is run by another test. */
TEST(itself) {
  const char *what = getenv("PRIVILEGES");
  if (!what) return;
  if (!strcmp(what, "euid")) _exit(geteuid() == 0 ? 70 : 71);
  if (!strcmp(what, "sleep")) { write(1, "x", 1); sleep(5); _exit(0); }
}
static int program_result(void) {
  int s;
  OK(wait(&s));
  return WIFEXITED(s) ? WEXITSTATUS(s) : -1;
}

TEST(links_of_others) {
  ROOT_ONLY;
  pid_t root = CHILD({ pause(); });
  char at[64], to[64];
  pid_t user = CHILD({
    become(USER);
    const char *names[] = {"exe", "cwd", "root", "fd/0"};
    for (int i = 0; i < 4; i++) {
      snprintf(at, sizeof at, "/proc/%d/%s", root, names[i]);
      ERR(readlink(at, to, sizeof to), EACCES);
      struct stat st;
      ERR(stat(at, &st), EACCES);
    }
    const char *texts[] = {"maps", "environ", "auxv", "mem"};
    for (int i = 0; i < 4; i++) {
      snprintf(at, sizeof at, "/proc/%d/%s", root, texts[i]);
      ERR(open(at, O_RDONLY), EACCES);
    }
    OK(readlink("/proc/self/exe", to, sizeof to));
    char byte;
    struct iovec here = {&byte, 1}, there = {&byte, 1};
    ERR(process_vm_readv(root, &here, 1, &there, 1, 0), EPERM);
    ERR(kill(root, SIGTERM), EPERM);
    ERR(setpriority(PRIO_PROCESS, root, 5), EPERM);
  });
  JOIN(user);
  OK(kill(root, SIGKILL));
  JOIN_SIGNAL(root, SIGKILL);
}
TEST(traced_set_uid) {
  ROOT_ONLY;
  t_in_folder();
  make_program(04755);
  pid_t plain = CHILD({ become(USER); run_program("euid"); });
  (void)plain;
  EQ(program_result(), 70);
  pid_t user = CHILD({
    become(USER);
    pid_t traced = fork();
    if (traced == 0) {
      OK(ptrace(PTRACE_TRACEME, 0, 0, 0));
      run_program("euid");
    }
    int s;
    EQ(waitpid(traced, &s, 0), traced);
    CHECK(WIFSTOPPED(s));
    OK(ptrace(PTRACE_CONT, traced, 0, 0));
    EQ(waitpid(traced, &s, 0), traced);
    CHECK(WIFEXITED(s));
    EQ(WEXITSTATUS(s), 71);
  });
  JOIN(user);
  user = CHILD({ become(USER); OK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)); run_program("euid"); });
  EQ(program_result(), 71);
}
TEST(unreadable_program) {
  ROOT_ONLY;
  t_in_folder();
  make_program(0711);
  pid_t user = CHILD({
    become(USER);
    int p[2];
    OK(pipe(p));
    pid_t hidden = fork();
    if (hidden == 0) {
      dup2(p[1], 1);
      run_program("sleep");
    }
    char byte, at[64];
    EQ(read(p[0], &byte, 1), 1);
    snprintf(at, sizeof at, "/proc/%d/mem", hidden);
    ERR(open(at, O_RDONLY), EACCES);
    struct iovec here = {&byte, 1}, there = {&byte, 1};
    ERR(process_vm_readv(hidden, &here, 1, &there, 1, 0), EPERM);
    OK(kill(hidden, SIGKILL));
  });
  JOIN(user);
}
/* A child's own exit signal is for the parent that chose it. */
TEST(exit_signal_reaches_no_heir) {
  int p[2];
  OK(pipe(p));
  OK(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0));
  pid_t middle = CHILD({
    long orphan = syscall(SYS_clone, SIGKILL, 0, 0, 0, 0);
    if (orphan == 0) {
      close(p[1]);
      t_ms(100);
      _exit(3);
    }
    _exit(0);
  });
  JOIN(middle);
  EQ(program_result(), 3);
}
TEST(writing_drops_set_id_bits) {
  ROOT_ONLY;
  t_in_folder();
  OK(chmod(".", 0777));
  int fd = OK(open("f", O_CREAT | O_RDWR, 0666));
  OK(fchmod(fd, 06777));
  pid_t user = CHILD({ become(USER); EQ(write(fd, "x", 1), 1); });
  JOIN(user);
  struct stat st;
  OK(fstat(fd, &st));
  EQ(st.st_mode & 07777, 0777);
}
/* Numbers that overflow sums. The kernel answers, whatever. */
TEST(sums_without_end) {
  void *page = mmap(0, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  CHECK(page != MAP_FAILED);
  unsigned long huge = -8192UL;
  CHECK(syscall(SYS_mremap, page, huge, huge - 4096, 0, 0) < 0);
  syscall(SYS_mremap, page, huge, huge, 0, 0);
  timer_t timer;
  struct sigevent none = {.sigev_notify = SIGEV_NONE};
  OK(timer_create(CLOCK_PROCESS_CPUTIME_ID, &none, &timer));
  struct itimerspec when = {{18446744073L, 709551615}, {0, 1}};
  OK(timer_settime(timer, 0, &when, 0));
  int64_t end = t_now_ms() + 100;
  while (t_now_ms() < end) {}
  int sem = OK(semget(IPC_PRIVATE, 1, 0600));
  struct sembuf both[2] = {{0, 32767, SEM_UNDO}, {0, -32767, 0}};
  OK(semop(sem, both, 2));
  for (int i = 0; i < 3; i++) ERR(semop(sem, both, 2), ERANGE);
  OK(semctl(sem, 0, IPC_RMID));
}

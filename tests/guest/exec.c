/* exec: arguments, environment, auxiliary vector, scripts, errors, what survives. */
#define T_NO_MAIN
#include "t.h"
#include <elf.h>
#include <sys/auxv.h>

static const char *self = "/proc/self/exe";
/* A second life as one of these roles. */
static int role(int argc, char **argv, char **envp) {
  const char *r = argv[1];
  if (!strcmp(r, "args")) {
    for (int i = 2; i < argc; i++) t_print("arg %s", argv[i]);
    for (int i = 0; envp[i]; i++) t_print("env %s", envp[i]);
  } else if (!strcmp(r, "state")) {
    sigset_t m;
    struct sigaction a;
    sigprocmask(0, 0, &m);
    sigaction(SIGUSR1, 0, &a);
    stack_t k;
    sigaltstack(0, &k);
    int ignored = a.sa_handler == SIG_IGN;
    sigaction(SIGUSR2, 0, &a);
    sigset_t p;
    sigpending(&p);
    t_print("masked %d pending %d ignored %d default %d stack %d fd50 %d fd51 %d", sigismember(&m, SIGTERM), sigismember(&p, SIGTERM),
            ignored, a.sa_handler == SIG_DFL, k.ss_flags == SS_DISABLE, fcntl(50, F_GETFD) == 0, fcntl(51, F_GETFD) == 0);
  } else if (!strcmp(r, "pid")) {
    return getpid() == atoi(argv[2]) ? 0 : 1;
  } else if (!strcmp(r, "argc")) {
    return argc - 2;
  }
  return 0;
}
/* What the program prints when run in a child. */
static const char *output_of(const char *path, char *const argv[], char *const envp[]) {
  static char text[65536];
  int p[2];
  OK(pipe(p));
  pid_t c = CHILD({
    dup2(p[1], 1);
    OK(close(p[0]));
    OK(close(p[1]));
    execve(path, argv, envp);
    t_print("execve: errno %d", errno);
    _exit(99);
  });
  OK(close(p[1]));
  size_t n = 0;
  ssize_t r;
  while ((r = OK(read(p[0], text + n, sizeof text - 1 - n))) > 0) n += r;
  text[n] = 0;
  OK(close(p[0]));
  JOIN(c);
  return text;
}
static int fails(const char *path) {
  char *a[] = {(char *)path, NULL};
  execve(path, a, environ);
  return errno;
}

TEST(arguments_and_environment) {
  char *a[] = {"zero", "args", "", "two words", "ü", NULL}, *e[] = {"A=1", "B=", "=odd", NULL};
  STREQ(output_of(self, a, e), "arg \narg two words\narg ü\nenv A=1\nenv B=\nenv =odd\n");
  e[0] = NULL;
  a[2] = NULL;
  STREQ(output_of(self, a, e), "");
}
TEST(many_arguments) {
  char *a[3001];
  a[0] = "x";
  a[1] = "argc";
  for (int i = 2; i < 202; i++) a[i] = "some-argument-of-moderate-length";
  a[202] = NULL;
  pid_t c = CHILD(execve(self, a, environ), _exit(255));
  JOIN_STATUS(c, 200);
  static char big[200000];
  memset(big, 'a', sizeof big - 1);
  a[2] = big;
  a[3] = NULL;
  errno = 0;
  EQ(execve(self, a, environ), -1);
  EQ(errno, E2BIG); /* one string beyond 128 KiB */
  big[131071 - 1] = 0;
  c = CHILD(execve(self, a, environ), _exit(255));
  JOIN_STATUS(c, 1);
}
TEST(what_survives) {
  signal(SIGUSR1, SIG_IGN);
  signal(SIGUSR2, exit);
  sigset_t m;
  sigemptyset(&m);
  sigaddset(&m, SIGTERM);
  OK(sigprocmask(SIG_BLOCK, &m, 0));
  static char st[65536];
  stack_t k = {.ss_sp = st, .ss_size = sizeof st};
  OK(sigaltstack(&k, 0));
  EQ(dup2(1, 50), 50);
  EQ(dup3(1, 51, O_CLOEXEC), 51);
  int p[2];
  OK(pipe(p));
  pid_t c = CHILD({
    dup2(p[1], 1);
    OK(raise(SIGTERM));
    char *a[] = {"x", "state", NULL};
    execve(self, a, environ);
  });
  OK(close(p[1]));
  char b[200] = {0};
  CHECK(read(p[0], b, 199) > 0);
  STREQ(b, "masked 1 pending 1 ignored 1 default 1 stack 1 fd50 1 fd51 0\n");
  JOIN(c);
}
TEST(same_pid) {
  pid_t c = CHILD({
    char n[20];
    snprintf(n, sizeof n, "%d", getpid());
    char *a[] = {"x", "pid", n, NULL};
    execve(self, a, environ);
    _exit(9);
  });
  JOIN(c);
}
TEST(errors) {
  t_in_folder();
  EQ(fails("missing"), ENOENT);
  EQ(fails("."), EACCES);
  EQ(fails("/etc/passwd"), EACCES);
  EQ(fails("/etc/passwd/x"), ENOTDIR);
  EQ(fails(""), ENOENT);
  t_write_file("text", "no magic here\n");
  OK(chmod("text", 0755));
  EQ(fails("text"), ENOEXEC);
  t_write_file("empty", "");
  OK(chmod("empty", 0755));
  EQ(fails("empty"), ENOEXEC);
  t_write_file("short", "\177ELF");
  OK(chmod("short", 0755));
  EQ(fails("short"), ENOEXEC);
  t_write_file("nointerp", "#!/no/such/interpreter\n");
  OK(chmod("nointerp", 0755));
  EQ(fails("nointerp"), ENOENT);
  t_write_file("blank", "#!   \n");
  OK(chmod("blank", 0755));
  EQ(fails("blank"), ENOEXEC);
  OK(symlink("loop", "loop"));
  EQ(fails("loop"), ELOOP);
  ERR(execve((char *)8, 0, 0), EFAULT);
  char *a[] = {"x", (char *)8, NULL};
  ERR(execve(self, a, environ), EFAULT);
}
TEST(broken_elf) {
  t_in_folder();
  int in = OK(open(self, O_RDONLY));
  static char image[4096];
  EQ(read(in, image, sizeof image), sizeof image);
  int fd = OK(open("e", O_WRONLY | O_CREAT, 0755));
  EQ(write(fd, image, 100), 100); /* program headers cut off */
  OK(close(fd));
  int e = fails("./e");
  say("headers cut off: errno %d", e);
  Elf64_Ehdr *h = (void *)image;
  h->e_machine = EM_AARCH64;
  fd = OK(open("m", O_WRONLY | O_CREAT, 0755));
  EQ(write(fd, image, sizeof image), sizeof image);
  OK(close(fd));
  EQ(fails("./m"), ENOEXEC);
  h->e_machine = EM_X86_64;
  h->e_phnum = 0;
  fd = OK(open("z", O_WRONLY | O_CREAT, 0755));
  EQ(write(fd, image, sizeof image), sizeof image);
  OK(close(fd));
  EQ(fails("./z"), ENOEXEC);
}
TEST(scripts) {
  t_in_folder();
  t_write_file("s", "#!/bin/echo one two\nignored\n");
  OK(chmod("s", 0755));
  char *a[] = {"x", "arg", NULL}, *e[] = {NULL};
  STREQ(output_of("./s", a, e), "one two ./s arg\n");
  t_write_file("sh", "#!/bin/sh\necho $0 $1; exit 0\n");
  OK(chmod("sh", 0755));
  STREQ(output_of("./sh", a, e), "./sh arg\n");
  t_write_file("outer", "#!./s\n");
  OK(chmod("outer", 0755));
  STREQ(output_of("./outer", a, e), "one two ./s ./outer arg\n");
  t_write_file("nonl", "#!/bin/echo x");
  OK(chmod("nonl", 0755));
  STREQ(output_of("./nonl", a, e), "x ./nonl arg\n");
  t_write_file("rec", "#!./rec\n");
  OK(chmod("rec", 0755));
  EQ(fails("./rec"), ELOOP);
}
TEST(text_busy) {
  t_in_folder();
  int in = OK(open(self, O_RDONLY)), out = OK(open("p", O_WRONLY | O_CREAT, 0755));
  static char b[65536];
  ssize_t n;
  while ((n = read(in, b, sizeof b)) > 0) EQ(write(out, b, n), n);
  EQ(fails("./p"), ETXTBSY);
  OK(close(out));
  int q[2];
  OK(pipe(q));
  pid_t c = CHILD({
    dup2(q[0], 0);
    execl("/bin/cat", "cat", NULL);
  });
  OK(kill(c, SIGKILL));
  JOIN_SIGNAL(c, SIGKILL);
}
TEST(auxiliary_vector) {
  EQ(getauxval(AT_PAGESZ), 4096);
  EQ(getauxval(AT_CLKTCK), 100);
  EQ(getauxval(AT_UID), getuid());
  EQ(getauxval(AT_EUID), geteuid());
  EQ(getauxval(AT_GID), getgid());
  EQ(getauxval(AT_SECURE), 0);
  EQ(getauxval(AT_PHENT), sizeof(Elf64_Phdr));
  CHECK(getauxval(AT_PHNUM) > 0 && getauxval(AT_PHDR));
  extern char _start[];
  CHECK(getauxval(AT_ENTRY) == (unsigned long)_start);
  CHECK(getauxval(AT_RANDOM));
  STREQ((char *)getauxval(AT_PLATFORM), "x86_64");
  CHECK(getauxval(AT_EXECFN));
  CHECK(getauxval(AT_SYSINFO_EHDR)); /* there is a vDSO */
  CHECK(getauxval(AT_HWCAP));
}
TEST(random_differs) {
  char *a[] = {"sh", "-c", "od -An -tx1 -N24 -j0 /proc/self/auxv >/dev/null; cat /proc/sys/kernel/random/uuid", NULL};
  char one[100];
  strcpy(one, output_of("/bin/sh", a, environ));
  CHECK(strcmp(one, output_of("/bin/sh", a, environ)));
}
TEST(execveat_forms) {
  char *a[] = {"x", "argc", "1", NULL};
  int fd = OK(open(self, O_RDONLY | O_CLOEXEC));
  pid_t c = CHILD(syscall(SYS_execveat, fd, "", a, environ, AT_EMPTY_PATH), _exit(99));
  JOIN_STATUS(c, 1);
  int d = OK(open("/bin", O_RDONLY | O_DIRECTORY));
  char *t[] = {"true", NULL};
  c = CHILD(syscall(SYS_execveat, d, "true", t, environ, 0), _exit(99));
  JOIN(c);
  ERR(syscall(SYS_execveat, d, "", t, environ, 0), ENOENT);
  ERR(syscall(SYS_execveat, d, "true", t, environ, 0x40000), EINVAL);
}
TEST(memfd_program) {
  int in = OK(open(self, O_RDONLY)), m = OK(memfd_create("prog", MFD_CLOEXEC));
  static char b[65536];
  ssize_t n;
  while ((n = read(in, b, sizeof b)) > 0) EQ(write(m, b, n), n);
  char p[64];
  snprintf(p, sizeof p, "/proc/self/fd/%d", m);
  char *a[] = {"x", "argc", "1", "2", NULL};
  pid_t c = CHILD(execve(p, a, environ), _exit(errno));
  say("write descriptor still open: %d", ({ int s; waitpid(c, &s, 0); WEXITSTATUS(s); }));
}
TEST(set_id_bits) {
  t_in_folder();
  if (geteuid()) SKIP("needs root");
  OK(chmod(".", 0755));
  int in = OK(open("/usr/bin/id", O_RDONLY)), out = OK(open("id", O_WRONLY | O_CREAT, 0755));
  static char b[65536];
  ssize_t n;
  while ((n = read(in, b, sizeof b)) > 0) EQ(write(out, b, n), n);
  OK(close(out));
  OK(chown("id", 1111, 2222));
  OK(chmod("id", 06755));
  pid_t c = CHILD({
    OK(setresgid(3333, 3333, 3333));
    OK(setresuid(3333, 3333, 3333));
    char *a[] = {"id", "-u", NULL};
    const char *o = output_of("./id", a, environ);
    t_print("   set_id_bits: effective user %s", strtok((char *)o, "\n"));
  });
  JOIN(c);
}
TEST_FOR(exec_often, 60) {
  for (int i = 0; i < 60; i++) {
    pid_t c = CHILD(execl("/bin/true", "true", NULL), _exit(99));
    JOIN(c);
  }
}
TEST(posix_spawn_like) {
  pid_t c = vfork();
  if (!c) {
    execl("/bin/sh", "sh", "-c", "exit 12", NULL);
    _exit(99);
  }
  JOIN_STATUS(c, 12);
  c = vfork();
  if (!c) {
    execl("/no/such", "x", NULL);
    _exit(98);
  }
  JOIN_STATUS(c, 98);
  STREQ("0", "0");
  FILE *f = popen("echo out; exit 3", "r");
  char line[16];
  CHECK(fgets(line, sizeof line, f));
  STREQ(line, "out\n");
  EQ(WEXITSTATUS(pclose(f)), 3);
  EQ(WEXITSTATUS(system("exit 5")), 5);
}

int main(int argc, char **argv, char **envp) {
  if (argc > 1 && (!strcmp(argv[1], "args") || !strcmp(argv[1], "state") || !strcmp(argv[1], "pid") || !strcmp(argv[1], "argc")))
    return role(argc, argv, envp);
  int failed = 0;
  for (int i = 0; i < t_count; i++) {
    int wanted = argc < 2;
    for (int a = 1; a < argc; a++) wanted |= !strcmp(argv[a], t_cases[i].name);
    if (wanted) failed |= t_run(i) == 1;
  }
  return failed;
}

/* Exhausting what there is: mappings, descriptors, processes, threads, memory. The process is refused, or dies alone. */
#include "t.h"

static void still_well(void) {
  pid_t c = CHILD({ _exit(5); });
  JOIN_STATUS(c, 5);
  c = CHILD(execl("/bin/true", "true", NULL));
  JOIN(c);
}
TEST_FOR(mappings, 120) {
  pid_t c = CHILD({
    long n = 0;
    while (n < 200000) {
      /* Neighbours differ, so that none merge. */
      void *p = mmap(0, 4096, n & 1 ? PROT_READ : PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
      if (p == MAP_FAILED) break;
      n++;
    }
    CHECK(n > 10000);
    getppid();
    pid_t k = fork();
    if (k == 0) _exit(0);
    _exit(0);
  });
  int s;
  EQ(waitpid(c, &s, 0), c);
  still_well();
}
TEST(descriptors) {
  pid_t c = CHILD({
    int n = 0;
    while (open("/dev/null", O_RDONLY) >= 0) n++;
    EQ(errno, EMFILE);
    CHECK(n > 100);
    int p[2];
    ERR(pipe(p), EMFILE);
    ERR(socket(AF_UNIX, SOCK_STREAM, 0), EMFILE);
    ERR(dup(0), EMFILE);
  });
  JOIN(c);
  still_well();
}
TEST_FOR(processes, 120) {
  pid_t c = CHILD({
    setpgid(0, 0);
    struct rlimit r = {200, 200};
    if (geteuid() == 0) OK(setresuid(4321, 4321, 4321));
    OK(setrlimit(RLIMIT_NPROC, &r));
    int n = 0;
    pid_t k;
    while (n < 400 && (k = fork()) >= 0) {
      if (k == 0) {
        pause();
        _exit(0);
      }
      n++;
    }
    EQ(errno, EAGAIN);
    CHECK(n >= 100 && n <= 200);
    signal(SIGTERM, SIG_IGN);
    kill(0, SIGTERM);
    while (wait(0) > 0) {}
  });
  JOIN(c);
  still_well();
}
static void *sleeper(void *a) {
  for (;;) pause();
  return a;
}
TEST_FOR(threads, 120) {
  pid_t c = CHILD({
    pthread_attr_t a;
    pthread_attr_init(&a);
    pthread_attr_setstacksize(&a, 65536);
    int n = 0;
    pthread_t t;
    while (n < 600 && pthread_create(&t, &a, sleeper, 0) == 0) n++;
    CHECK(n >= 200);
    _exit(0);
  });
  JOIN(c);
  still_well();
}
TEST_FOR(address_space, 60) {
  pid_t c = CHILD({
    long n = 0;
    while (n < 200000 && mmap(0, 1l << 40, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0) != MAP_FAILED) n++;
    EQ(errno, ENOMEM);
    CHECK(n > 50 && n < 130);
    CHECK(mmap(0, 1l << 50, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED);
  });
  JOIN(c);
  still_well();
}
TEST(pipes_and_sockets_full) {
  pid_t c = CHILD({
    for (int i = 0; i < 100; i++) {
      int p[2];
      if (pipe2(p, O_NONBLOCK)) break;
      static char b[65536];
      while (write(p[1], b, sizeof b) > 0) {}
    }
    for (int i = 0; i < 100; i++) {
      int s[2];
      if (socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, s)) break;
      static char b[10000];
      while (send(s[0], b, sizeof b, 0) > 0) {}
    }
  });
  JOIN(c);
  still_well();
}
TEST(long_arguments) {
  struct iovec v[1024];
  static char b[16];
  for (int i = 0; i < 1024; i++) v[i] = (struct iovec){b, 16};
  int n = OK(open("/dev/null", O_WRONLY));
  EQ(writev(n, v, 1024), 16384);
  for (int i = 0; i < 1024; i++) v[i].iov_len = 1l << 40;
  ssize_t r = writev(n, v, 1024);
  CHECK(r > 0 || errno == EINVAL || errno == EFAULT);
  static struct pollfd p[1000];
  for (int i = 0; i < 1000; i++) p[i].fd = -1;
  EQ(poll(p, 1000, 0), 0);
  char *big = mmap(0, 64 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  EQ(write(n, big, 64 << 20), 64 << 20);
  int z = OK(open("/dev/zero", O_RDONLY));
  EQ(read(z, big, 64 << 20), 64 << 20);
  EQ(getrandom(big, 1000000, 0), 1000000);
}
TEST_FOR(fork_bomb_of_short_lives, 120) {
  for (int round = 0; round < 20; round++) {
    pid_t c[20];
    for (int i = 0; i < 20; i++)
      c[i] = CHILD({
        if (i & 1) kill(getpid(), SIGKILL);
        _exit(i);
      });
    for (int i = 0; i < 20; i++) {
      int s;
      EQ(waitpid(c[i], &s, 0), c[i]);
      if (i & 1)
        CHECK(WIFSIGNALED(s) && WTERMSIG(s) == SIGKILL);
      else
        CHECK(WIFEXITED(s) && WEXITSTATUS(s) == i);
    }
  }
}

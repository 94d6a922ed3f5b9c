/* The range at the top of the address space, where a sandbox may keep its own things: reading, writing and running what is found
 * there harms only the process that does it. On the host the range is the stack's and mostly empty. */
#include "t.h"
#include <setjmp.h>

#define TOP 0x7ffffffff000ul
#define REGION (16ul << 30)
#define STRIDE 0x8000ul

static sigjmp_buf back;
static void leap(int s) { siglongjmp(back, s); }
static void catch_faults(void) {
  static char stack[65536];
  stack_t k = {.ss_sp = stack, .ss_size = sizeof stack};
  OK(sigaltstack(&k, 0));
  struct sigaction a = {.sa_handler = leap, .sa_flags = SA_ONSTACK | SA_NODEFER};
  OK(sigaction(SIGSEGV, &a, 0));
  OK(sigaction(SIGBUS, &a, 0));
  OK(sigaction(SIGILL, &a, 0));
  OK(sigaction(SIGTRAP, &a, 0));
}
static int readable(unsigned long at) {
  if (sigsetjmp(back, 0)) return 0;
  (void)*(volatile char *)at;
  return 1;
}
static int writable(unsigned long at) {
  if (sigsetjmp(back, 0)) return 0;
  *(volatile char *)at = *(volatile char *)at;
  return 1;
}
static int listed(unsigned long at) {
  static char text[1 << 20];
  static int loaded;
  if (!loaded) {
    int fd = OK(open("/proc/self/maps", O_RDONLY));
    size_t n = 0;
    ssize_t r;
    while ((r = read(fd, text + n, sizeof text - 1 - n)) > 0) n += r;
    close(fd);
    loaded = 1;
  }
  unsigned long a, b;
  for (char *l = text; *l; l = strchr(l, '\n') + 1)
    if (sscanf(l, "%lx-%lx", &a, &b) == 2 && at >= a && at < b) return 1;
  return 0;
}
/* Pages that are there although /proc/self/maps does not show them. */
static unsigned long hidden[4096];
static int hidden_count;
static int searched;
/* Once, before the tests: their processes are forked from this one and find the same pages at the same places. */
__attribute__((constructor)) static void search(void) {
  catch_faults();
  if (searched++) return;
  int64_t end = t_now_ms() + 15000;
  for (unsigned long at = TOP - REGION; at < TOP && hidden_count < 4096 && t_now_ms() < end; at += STRIDE)
    if (readable(at) && !listed(at))
      for (unsigned long p = at - STRIDE + 4096; p < at + STRIDE && hidden_count < 4096; p += 4096)
        if ((hidden_count == 0 || p > hidden[hidden_count - 1]) && readable(p) && !listed(p)) hidden[hidden_count++] = p;
}
/* The sandbox must still do all this. */
static void still_well(void) {
  pid_t c = CHILD({ _exit(5); });
  JOIN_STATUS(c, 5);
  int p[2];
  OK(pipe(p));
  EQ(write(p[1], "x", 1), 1);
  char b;
  EQ(read(p[0], &b, 1), 1);
  c = CHILD(execl("/bin/true", "true", NULL));
  JOIN(c);
}
/* Runs an attack in a child that may end in any way, but must end. */
#define ATTACK(...) do { pid_t t_c = CHILD({ alarm(2); __VA_ARGS__; }); int t_s, t_n = 0; \
    while (waitpid(t_c, &t_s, WNOHANG) == 0) { if (++t_n > 500) { kill(t_c, SIGKILL); waitpid(t_c, &t_s, 0); break; } t_ms(10); } \
    still_well(); } while (0)

TEST_FOR(writing_hidden_pages, 60) {
  search();
  int w = 0;
  for (int i = 0; i < hidden_count; i++) w += writable(hidden[i]);
  t_print("note: %d hidden pages, %d writable", hidden_count, w);
  for (int pattern = 0; pattern < 256; pattern += 85)
    ATTACK({
      catch_faults();
      for (int i = 0; i < hidden_count; i++) {
        if (sigsetjmp(back, 0)) continue;
        memset((void *)hidden[i], pattern, 4096);
      }
      for (int i = 0; i < 100; i++) getppid();
    });
}
TEST_FOR(writing_single_words, 120) {
  search();
  /* The first pages each, which hold the state of the first thread, then a few of the thousands that follow. */
  for (int i = 0; i < hidden_count; i += i < 8 ? 1 : 1 + hidden_count / 16) {
    if (!writable(hidden[i])) continue;
    for (int word = 0; word < 64; word += 7)
      ATTACK({
        uint64_t *p = (void *)hidden[i];
        p[word] ^= -1ul;
        getppid();
        open("/etc/passwd", O_RDONLY);
        p[word] = 0x7fffffffffffffff;
        write(1, "", 0);
        fork();
        p[word] = 1;
        getppid();
      });
  }
}
TEST_FOR(writing_while_a_thread_calls, 60) {
  search();
  ATTACK({
    catch_faults();
    pid_t me = getpid();
    pid_t helper = syscall(SYS_clone, CLONE_VM | SIGCHLD, mmap(0, 65536, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) + 60000, 0, 0, 0);
    if (helper == 0)
      for (;;) syscall(SYS_getppid);
    for (int round = 0; round < 50; round++)
      for (int i = 0; i < hidden_count; i++) {
        if (sigsetjmp(back, 0)) continue;
        ((volatile uint64_t *)hidden[i])[round % 512] = round * 0x0101010101010101ul;
      }
    kill(helper, SIGKILL);
    kill(me, SIGKILL);
  });
}
TEST_FOR(running_hidden_code, 120) {
  search();
  unsigned long numbers[] = {SYS_getpid, SYS_open, SYS_execve, SYS_kill, SYS_mmap, SYS_mprotect, SYS_clone, SYS_ptrace, SYS_rt_sigreturn, SYS_rt_sigprocmask, SYS_exit, SYS_exit_group, SYS_futex, SYS_socket, SYS_munmap};
  int sites = 0;
  for (int i = 0; i < hidden_count && sites < 12; i++)
    for (int k = 0; k + 1 < 4096 && sites < 12; k++) {
      unsigned char *p = (void *)(hidden[i] + k);
      if (sigsetjmp(back, 0)) break;
      if (p[0] != 0x0f || p[1] != 0x05) continue;
      sites++;
      for (unsigned n = 0; n < sizeof numbers / sizeof *numbers; n++)
        ATTACK({
          __asm__ volatile("mov %0,%%rax; mov %1,%%rbx; mov $0x1000,%%edi; mov $0x1000,%%esi; mov $7,%%edx; mov $0x32,%%r10d; mov $-1,%%r8; xor %%r9d,%%r9d; jmp *%%rbx" ::"r"(numbers[n]), "r"(p)
                           : "rax", "rbx", "rdi", "rsi", "rdx", "r10", "r8", "r9", "memory");
        });
    }
  t_print("note: %d call sites in hidden pages", sites);
}
TEST_FOR(jumping_anywhere_into_hidden_code, 120) {
  search();
  int tried = 0;
  for (int i = 0; i < hidden_count && tried < 24; i += 1 + hidden_count / 24, tried++)
    ATTACK({
      void *entry = (void *)(hidden[i] + (tried * 37) % 4096);
      __asm__ volatile("mov %%rsp,%%rdi; mov %%rsp,%%rsi; mov %%rsp,%%rax; jmp *%0" ::"r"(entry) : "rdi", "rsi", "rax", "memory");
    });
}
TEST(calls_with_hidden_addresses) {
  search();
  int p[2];
  OK(pipe(p));
  EQ(write(p[1], "secret", 6), 6);
  for (int i = 0; i < hidden_count; i += 1 + hidden_count / 64) {
    void *at = (void *)hidden[i];
    ERR(read(p[0], at, 6), EFAULT);
    ERR(write(p[1], at, 6), EFAULT);
    ERR(open(at, O_RDONLY), EFAULT);
    CHECK(munmap(at, 4096) == -1 || !writable(hidden[i]) || 1);
    CHECK(mprotect(at, 4096, PROT_READ | PROT_WRITE) == -1);
    CHECK(mmap(at, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED);
    CHECK(mremap(at, 4096, 8192, MREMAP_MAYMOVE) == MAP_FAILED);
    CHECK(madvise(at, 4096, MADV_DONTNEED) == -1);
    CHECK(madvise(at, 4096, MADV_REMOVE) == -1);
    struct iovec l = {(char[8]){0}, 8}, r = {at, 8};
    CHECK(process_vm_readv(getpid(), &l, 1, &r, 1, 0) <= 0);
  }
  still_well();
}
TEST(unmapping_everything) {
  ATTACK({
    munmap((void *)0x10000, 0x7ffffffff000ul - 0x10000);
    _exit(1);
  });
  ATTACK({
    mprotect((void *)0x400000, 1 << 20, PROT_NONE);
    _exit(1);
  });
  ATTACK(munmap((void *)(TOP - REGION), REGION));
}
TEST(child_touches_the_parents_area) {
  search();
  for (int i = 0; i < hidden_count; i += 1 + hidden_count / 50)
    ATTACK({
      catch_faults();
      if (!sigsetjmp(back, 0)) memset((void *)hidden[i], 0x5a, 4096);
      getppid();
    });
}

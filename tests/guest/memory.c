/* mmap and its family, brk, faults. */
#include "t.h"
#include <setjmp.h>

static sigjmp_buf back;
static volatile siginfo_t fault;
static void caught(int s, siginfo_t *i, void *c) {
  (void)c;
  fault = *i;
  siglongjmp(back, s);
}
static void catch_faults(void) {
  struct sigaction a = {.sa_sigaction = caught, .sa_flags = SA_SIGINFO};
  OK(sigaction(SIGSEGV, &a, 0));
  OK(sigaction(SIGBUS, &a, 0));
}
/* The signal that the code raises, or 0. */
#define SIGNAL_OF(code) ({ int t_g = sigsetjmp(back, 1); if (!t_g) { code; } t_g; })
#define RW (PROT_READ | PROT_WRITE)
#define ANON (MAP_PRIVATE | MAP_ANONYMOUS)
static char *map(size_t n, int prot, int flags, int fd, off_t at) {
  char *p = mmap(0, n, prot, flags, fd, at);
  if (p == MAP_FAILED) t_fail("mmap: errno %d", errno);
  return p;
}
static int file_of(size_t n, char fill) {
  int fd = OK(open("file", O_RDWR | O_CREAT | O_TRUNC, 0600));
  char *b = malloc(n);
  memset(b, fill, n);
  EQ(write(fd, b, n), n);
  free(b);
  return fd;
}

TEST(anonymous_is_zero) {
  char *p = map(1 << 20, RW, ANON, -1, 0);
  for (int i = 0; i < 1 << 20; i += 4096) EQ(p[i], 0);
  memset(p, 1, 1 << 20);
  OK(munmap(p, 1 << 20));
  catch_faults();
  EQ(SIGNAL_OF(*(volatile char *)p), SIGSEGV);
  CHECK(fault.si_addr == p);
  EQ(fault.si_code, SEGV_MAPERR);
}
TEST(partial_unmap) {
  char *p = map(5 * 4096, RW, ANON, -1, 0);
  memset(p, 7, 5 * 4096);
  OK(munmap(p + 4096, 4096));
  OK(munmap(p + 3 * 4096, 4096));
  EQ(p[0] + p[2 * 4096] + p[4 * 4096], 21);
  catch_faults();
  EQ(SIGNAL_OF(p[4096] = 1), SIGSEGV);
  EQ(SIGNAL_OF(p[3 * 4096] = 1), SIGSEGV);
  OK(munmap(p, 5 * 4096)); /* holes do not matter */
}
TEST(bad_arguments) {
  errno = 0;
  CHECK(mmap(0, 0, RW, ANON, -1, 0) == MAP_FAILED && errno == EINVAL);
  CHECK(mmap(0, 4096, RW, MAP_ANONYMOUS, -1, 0) == MAP_FAILED && errno == EINVAL);
  CHECK(mmap(0, 4096, RW, MAP_PRIVATE, -1, 0) == MAP_FAILED && errno == EBADF);
  CHECK(mmap(0, (size_t)-4096, RW, ANON, -1, 0) == MAP_FAILED && errno == ENOMEM);
  CHECK(mmap((void *)4097, 4096, RW, ANON | MAP_FIXED, -1, 0) == MAP_FAILED && errno == EINVAL);
  int z = OK(open("/dev/zero", O_RDONLY));
  CHECK(mmap(0, 4096, RW, MAP_PRIVATE, z, 100) == MAP_FAILED && errno == EINVAL);
  int p[2];
  OK(pipe(p));
  CHECK(mmap(0, 4096, PROT_READ, MAP_PRIVATE, p[0], 0) == MAP_FAILED && errno == ENODEV);
  ERR(munmap((void *)1, 4096), EINVAL);
  ERR(munmap((void *)4096, 0), EINVAL);
  CHECK(mmap((void *)0x7ffffffff000, 4096, RW, ANON | MAP_FIXED, -1, 0) == MAP_FAILED);
  EQ(errno, ENOMEM);
}
TEST(file_rights) {
  t_in_folder();
  OK(close(file_of(4096, 'a')));
  int r = OK(open("file", O_RDONLY)), w = OK(open("file", O_WRONLY));
  CHECK(mmap(0, 4096, RW, MAP_SHARED, r, 0) == MAP_FAILED && errno == EACCES);
  CHECK(mmap(0, 4096, PROT_READ, MAP_PRIVATE, w, 0) == MAP_FAILED && errno == EACCES);
  char *p = map(4096, RW, MAP_PRIVATE, r, 0);
  p[0] = 'b';
  char c;
  EQ(pread(r, &c, 1, 0), 1);
  EQ(c, 'a');
  char *s = map(4096, PROT_READ, MAP_SHARED, r, 0);
  ERR(mprotect(s, 4096, RW), EACCES);
}
TEST(private_file_map) {
  t_in_folder();
  int fd = file_of(10000, 'x');
  char *p = map(12288, RW, MAP_PRIVATE, fd, 0);
  OK(close(fd));
  EQ(p[9999], 'x');
  EQ(p[10000], 0);
  p[5000] = 'y';
  EQ(p[5000], 'y');
  EQ(t_read_file("file")[5000], 'x');
}
TEST(shared_file_map) {
  t_in_folder();
  int fd = file_of(8192, 'x');
  char *p = map(8192, RW, MAP_SHARED, fd, 0), *q = map(4096, RW, MAP_SHARED, fd, 4096);
  p[4096] = 'y';
  EQ(q[0], 'y');
  char c;
  EQ(pread(fd, &c, 1, 4096), 1);
  EQ(c, 'y');
  EQ(pwrite(fd, "z", 1, 4097), 1);
  EQ(q[1], 'z');
  OK(msync(p, 8192, MS_SYNC));
  pid_t k = CHILD({ q[2] = 'w'; });
  JOIN(k);
  EQ(p[4098], 'w');
  OK(munmap(p, 8192));
  EQ(t_read_file("file")[4098], 'w');
  ERR(msync(p, 8192, MS_SYNC), ENOMEM);
  ERR(msync(q, 4096, MS_SYNC | MS_ASYNC), EINVAL);
}
TEST(two_processes_map_one_file) {
  t_in_folder();
  OK(close(file_of(4096, 0)));
  int ready[2];
  OK(pipe(ready));
  pid_t c = CHILD({
    int fd = OK(open("file", O_RDWR));
    volatile int *p = (void *)map(4096, RW, MAP_SHARED, fd, 0);
    EQ(write(ready[1], "x", 1), 1);
    AWAIT(p[0] == 42);
    p[1] = 43;
  });
  char b;
  EQ(read(ready[0], &b, 1), 1);
  int fd = OK(open("file", O_RDWR));
  volatile int *p = (void *)map(4096, RW, MAP_SHARED, fd, 0);
  p[0] = 42;
  AWAIT(p[1] == 43);
  JOIN(c);
}
TEST(shared_anonymous) {
  volatile int *p = (void *)map(8192, RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  p[0] = 1;
  pid_t c = CHILD({
    EQ(p[0], 1);
    p[1024] = 9;
  });
  JOIN(c);
  EQ(p[1024], 9);
}
TEST(past_end_of_file) {
  t_in_folder();
  int fd = file_of(5000, 'x');
  catch_faults();
  volatile char *p = map(3 * 4096, RW, MAP_SHARED, fd, 0);
  EQ(p[4999], 'x');
  EQ(p[8191], 0);
  EQ(SIGNAL_OF((void)p[8192]), SIGBUS);
  EQ(fault.si_code, BUS_ADRERR);
  CHECK(fault.si_addr == p + 8192);
  OK(ftruncate(fd, 9000));
  EQ(p[8192], 0);
  OK(ftruncate(fd, 100));
  EQ(SIGNAL_OF((void)p[4096]), SIGBUS);
  EQ(p[50], 'x');
  EQ(p[200], 0);
}
TEST(protection) {
  char *p = map(3 * 4096, RW, ANON, -1, 0);
  p[4096] = 5;
  OK(mprotect(p + 4096, 4096, PROT_READ));
  catch_faults();
  EQ(p[4096], 5);
  EQ(SIGNAL_OF(p[4096] = 1), SIGSEGV);
  EQ(fault.si_code, SEGV_ACCERR);
  CHECK(fault.si_addr == p + 4096);
  OK(mprotect(p, 3 * 4096, PROT_NONE));
  EQ(SIGNAL_OF((void)*(volatile char *)p), SIGSEGV);
  OK(mprotect(p, 3 * 4096, RW));
  p[4096] = 6;
  ERR(mprotect(p + 1, 4096, RW), EINVAL);
  ERR(mprotect(p, 4096, 0x100), EINVAL);
  OK(munmap(p + 4096, 4096));
  ERR(mprotect(p, 3 * 4096, PROT_READ), ENOMEM);
  OK(mprotect(p, 0, RW));
}
TEST(execution) {
  static const unsigned char code[] = {0xb8, 42, 0, 0, 0, 0xc3}; /* mov $42,%eax; ret */
  unsigned char *p = (void *)map(4096, RW, ANON, -1, 0);
  memcpy(p, code, sizeof code);
  catch_faults();
  EQ(SIGNAL_OF(((int (*)(void))p)()), SIGSEGV);
  CHECK(fault.si_addr == p);
  OK(mprotect(p, 4096, PROT_READ | PROT_EXEC));
  EQ(((int (*)(void))p)(), 42);
  OK(mprotect(p, 4096, RW | PROT_EXEC));
  p[1] = 43;
  EQ(((int (*)(void))p)(), 43);
}
TEST(fixed_addresses) {
  char *p = map(4 * 4096, RW, ANON, -1, 0);
  memset(p, 1, 4 * 4096);
  CHECK(mmap(p + 4096, 4096, RW, ANON | MAP_FIXED, -1, 0) == p + 4096);
  EQ(p[0] + p[4096] + p[8192], 2);
  errno = 0;
  CHECK(mmap(p, 4096, RW, ANON | MAP_FIXED_NOREPLACE, -1, 0) == MAP_FAILED);
  EQ(errno, EEXIST);
  OK(munmap(p, 4096));
  CHECK(mmap(p, 4096, RW, ANON | MAP_FIXED_NOREPLACE, -1, 0) == p);
  char *low = (void *)0x10000000;
  CHECK(mmap(low, 4096, RW, ANON, -1, 0) == low); /* a hint that is free is taken */
  CHECK(mmap(low, 4096, RW, ANON, -1, 0) != low);
}
TEST(low_addresses) {
  char *p = mmap(0, 4096, RW, ANON | MAP_32BIT, -1, 0);
  CHECK(p != MAP_FAILED && (uintptr_t)p < 0x80000000ul);
  p = mmap((void *)0x10000, 4096, RW, ANON | MAP_FIXED, -1, 0);
  CHECK(p == (void *)0x10000);
}
TEST(remap) {
  char *p = map(2 * 4096, RW, ANON, -1, 0);
  p[0] = 1;
  p[4096] = 2;
  char *q = mremap(p, 2 * 4096, 64 * 4096, MREMAP_MAYMOVE);
  CHECK(q != MAP_FAILED);
  EQ(q[0] + q[4096] + q[63 * 4096], 3);
  CHECK(mremap(q, 64 * 4096, 4096, 0) == q);
  catch_faults();
  EQ(SIGNAL_OF(q[4096] = 1), SIGSEGV);
  char *to = map(4096, RW, ANON, -1, 0);
  to[0] = 9;
  CHECK(mremap(q, 4096, 4096, MREMAP_MAYMOVE | MREMAP_FIXED, to) == to);
  EQ(to[0], 1);
  EQ(SIGNAL_OF(q[0] = 1), SIGSEGV);
  errno = 0;
  CHECK(mremap(q, 4096, 8192, MREMAP_MAYMOVE) == MAP_FAILED);
  EQ(errno, EFAULT);
  CHECK(mremap(to + 1, 4096, 8192, MREMAP_MAYMOVE) == MAP_FAILED && errno == EINVAL);
  CHECK(mremap(to, 4096, 0, 0) == MAP_FAILED && errno == EINVAL);
  char *tight = map(2 * 4096, RW, ANON, -1, 0);
  CHECK(mremap(tight, 4096, 2 * 4096, 0) == MAP_FAILED && errno == ENOMEM);
}
TEST(remap_shared) {
  t_in_folder();
  int fd = file_of(16384, 'x');
  char *p = map(4096, RW, MAP_SHARED, fd, 4096);
  char *q = mremap(p, 4096, 8192, MREMAP_MAYMOVE);
  CHECK(q != MAP_FAILED);
  q[4096] = 'n';
  EQ(t_read_file("file")[8192], 'n');
  char *r = mremap(q, 0, 4096, MREMAP_MAYMOVE); /* a second view */
  CHECK(r != MAP_FAILED && r != q);
  q[1] = 'm';
  EQ(r[1], 'm');
}
TEST(advice) {
  char *p = map(4 * 4096, RW, ANON, -1, 0);
  memset(p, 5, 4 * 4096);
  OK(madvise(p + 4096, 4096, MADV_DONTNEED));
  EQ(p[0] + p[4096] + p[8192], 10);
  OK(madvise(p, 4096, MADV_WILLNEED));
  OK(madvise(p, 4096, MADV_SEQUENTIAL));
  OK(madvise(p, 4096, MADV_NOHUGEPAGE));
  ERR(madvise(p + 1, 4096, MADV_DONTNEED), EINVAL);
  ERR(madvise(p, 4096, 9999), EINVAL);
  OK(munmap(p + 4096, 4096));
  ERR(madvise(p, 3 * 4096, MADV_DONTNEED), ENOMEM);
  EQ(p[0] + p[8192], 0);
}
TEST(advice_dontfork_wipe) {
  char *p = map(4096, RW, ANON, -1, 0), *q = map(4096, RW, ANON, -1, 0);
  p[0] = q[0] = 1;
  OK(madvise(p, 4096, MADV_DONTFORK));
  OK(madvise(q, 4096, MADV_WIPEONFORK));
  catch_faults();
  pid_t c = CHILD({
    EQ(SIGNAL_OF((void)*(volatile char *)p), SIGSEGV);
    EQ(q[0], 0);
  });
  JOIN(c);
  EQ(p[0] + q[0], 2);
}
TEST(advice_on_files) {
  t_in_folder();
  int fd = file_of(8192, 'x');
  char *p = map(8192, RW, MAP_PRIVATE, fd, 0);
  p[0] = 'y';
  OK(madvise(p, 4096, MADV_DONTNEED));
  EQ(p[0], 'x');
  char *s = map(8192, RW, MAP_SHARED, fd, 0);
  s[4096] = 'z';
  OK(madvise(s, 8192, MADV_DONTNEED));
  EQ(s[4096], 'z');
  if (madvise(s, 4096, MADV_REMOVE) == 0) EQ(s[0], 0);
}
TEST(brk_moves) {
  char *now = sbrk(0);
  CHECK(sbrk(3 * 4096) == now);
  memset(now, 3, 3 * 4096);
  EQ(now[3 * 4096 - 1], 3);
  CHECK(sbrk(-4096) != (void *)-1);
  CHECK((char *)sbrk(0) == now + 2 * 4096);
  EQ(now[0], 3);
  CHECK(sbrk(4096) != (void *)-1);
  EQ(now[2 * 4096], 0);
  EQ(syscall(SYS_brk, 8), (long)sbrk(0)); /* refused: the old one comes back */
}
TEST(stack_grows) {
  volatile char b[4 << 20];
  for (int i = sizeof b - 1; i >= 0; i -= 4096) b[i] = 1;
  EQ(b[sizeof b - 1], 1);
}
TEST(write_to_text_and_constants) {
  catch_faults();
  static const char constant[] = "constant";
  EQ(SIGNAL_OF(*(volatile char *)constant = 'x'), SIGSEGV);
  EQ(fault.si_code, SEGV_ACCERR);
  EQ(SIGNAL_OF(*(volatile char *)(void *)map = 0), SIGSEGV);
}
TEST(null_and_wild_pointers) {
  catch_faults();
  EQ(SIGNAL_OF(*(volatile int *)0 = 1), SIGSEGV);
  CHECK(fault.si_addr == 0 && fault.si_code == SEGV_MAPERR);
  EQ(SIGNAL_OF(*(volatile int *)0x8000000000000000 = 1), SIGSEGV);
  say("non-canonical: code %d address %lx", fault.si_code, (long)fault.si_addr);
  EQ(SIGNAL_OF(*(volatile int *)0xffffffff81000000 = 1), SIGSEGV);
  say("kernel: code %d address %lx", fault.si_code, (long)fault.si_addr);
  EQ(SIGNAL_OF(((void (*)(void))0x1000)()), SIGSEGV);
  CHECK(fault.si_addr == (void *)0x1000);
}
TEST(uncaught_faults_kill) {
  struct rlimit none = {0, 0};
  OK(setrlimit(RLIMIT_CORE, &none));
  pid_t c = CHILD({ *(volatile int *)8 = 1; });
  JOIN_SIGNAL(c, SIGSEGV);
  sigset_t m;
  sigfillset(&m);
  OK(sigprocmask(SIG_BLOCK, &m, 0));
  c = CHILD({ *(volatile int *)8 = 1; });
  JOIN_SIGNAL(c, SIGSEGV); /* blocked: killed all the same */
  signal(SIGSEGV, SIG_IGN);
  c = CHILD({ *(volatile int *)8 = 1; });
  JOIN_SIGNAL(c, SIGSEGV);
  c = CHILD({ __asm__ volatile("ud2"); });
  JOIN_SIGNAL(c, SIGILL);
  c = CHILD({ __asm__ volatile("xor %%ecx,%%ecx; mov $1,%%eax; cltd; idiv %%ecx" ::: "eax", "ecx", "edx"); });
  JOIN_SIGNAL(c, SIGFPE);
  c = CHILD({ __asm__ volatile("int3"); });
  JOIN_SIGNAL(c, SIGTRAP);
  c = CHILD({ __asm__ volatile("hlt"); });
  JOIN_SIGNAL(c, SIGSEGV);
}
TEST(efault_in_calls) {
  t_in_folder();
  int fd = file_of(8192, 'x');
  char *p = map(8192, RW, ANON, -1, 0);
  OK(munmap(p + 4096, 4096));
  ERR(pread(fd, p + 4096, 10, 0), EFAULT);
  say("read across the edge %ld", (long)pread(fd, p + 4090, 100, 0));
  ERR(pwrite(fd, (void *)8, 10, 0), EFAULT);
  ERR(open((char *)8, O_RDONLY), EFAULT);
  struct stat s;
  ERR(syscall(SYS_fstat, fd, (struct stat *)8), EFAULT);
  memset(p + 4000, 'a', 96);
  ERR(open(p + 4000, O_RDONLY), EFAULT); /* no end before the hole */
  strcpy(p + 4096 - 5, "file");
  OK(stat(p + 4096 - 5, &s)); /* ends right before it */
  OK(mprotect(p, 4096, PROT_READ));
  ERR(pread(fd, p, 10, 0), EFAULT);
}
TEST(calls_into_file_maps) {
  t_in_folder();
  int fd = file_of(8192, 'x');
  char *s = map(8192, RW, MAP_SHARED, fd, 0), *v = map(8192, RW, MAP_PRIVATE, fd, 0);
  int p[2];
  OK(pipe(p));
  EQ(write(p[1], "12345678", 8), 8);
  EQ(read(p[0], s, 4), 4);
  EQ(read(p[0], v, 4), 4);
  CHECK(!memcmp(s, "1234", 4) && !memcmp(v, "5678", 4));
  EQ(write(p[1], s + 4096, 3), 3);
  char *ro = map(4096, PROT_READ, MAP_PRIVATE, fd, 0);
  EQ(write(p[1], ro, 3), 3);
  ERR(read(p[0], ro, 3), EFAULT);
}
TEST(residency_and_locks) {
  char *p = map(4 * 4096, RW, ANON, -1, 0);
  unsigned char v[4];
  p[0] = 1;
  OK(mincore(p, 4 * 4096, v));
  EQ(v[0] & 1, 1);
  ERR(mincore(p + 1, 4096, v), EINVAL);
  OK(munmap(p + 8192, 8192));
  ERR(mincore(p, 4 * 4096, v), ENOMEM);
  OK(mlock(p, 4096));
  OK(munlock(p, 4096));
  OK(mlockall(MCL_CURRENT));
  OK(munlockall());
}
TEST(address_space_limit) {
  struct rlimit r = {256 << 20, 256 << 20};
  OK(setrlimit(RLIMIT_AS, &r));
  CHECK(mmap(0, 512 << 20, RW, ANON, -1, 0) == MAP_FAILED);
  EQ(errno, ENOMEM);
  char *p = map(1 << 20, RW, ANON, -1, 0);
  p[0] = 1;
}
TEST(many_maps) {
  char *p = map(2000 * 4096, RW, ANON, -1, 0);
  for (int i = 0; i < 2000; i += 2) OK(mprotect(p + i * 4096, 4096, PROT_READ));
  for (int i = 1; i < 2000; i += 2) p[i * 4096] = 1;
  for (int i = 0; i < 2000; i += 2) EQ(p[i * 4096], 0);
  OK(munmap(p, 2000 * 4096));
}
TEST(fork_copies_all_kinds) {
  t_in_folder();
  int fd = file_of(8192, 'f');
  char *a = map(1 << 20, RW, ANON, -1, 0), *s = map(4096, RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0), *v = map(8192, RW, MAP_PRIVATE, fd, 0);
  memset(a, 1, 1 << 20);
  v[1] = 'p';
  pid_t c = CHILD({
    EQ(a[1000], 1);
    EQ(v[1], 'p');
    EQ(v[4096], 'f');
    a[1000] = 2;
    v[1] = 'q';
    s[0] = 3;
    char *n = map(4096, RW, ANON, -1, 0);
    n[0] = 1;
    OK(munmap(a, 4096));
  });
  JOIN(c);
  EQ(a[1000], 1);
  EQ(v[1], 'p');
  EQ(s[0], 3);
}
TEST(memfd) {
  int fd = OK(memfd_create("m", MFD_ALLOW_SEALING));
  OK(ftruncate(fd, 8192));
  char *p = map(8192, RW, MAP_SHARED, fd, 0);
  strcpy(p, "in memory");
  char b[16];
  EQ(pread(fd, b, 10, 0), 10);
  STREQ(b, "in memory");
  ERR(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), EBUSY);
  OK(munmap(p, 8192));
  OK(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK));
  EQ(fcntl(fd, F_GET_SEALS), F_SEAL_WRITE | F_SEAL_SHRINK);
  ERR(write(fd, "x", 1), EPERM);
  ERR(ftruncate(fd, 0), EPERM);
  CHECK(mmap(0, 4096, RW, MAP_SHARED, fd, 0) == MAP_FAILED && errno == EPERM);
}
TEST(process_vm) {
  static char secret[] = "a secret";
  char *p = map(4096, RW, ANON, -1, 0);
  strcpy(p, "before");
  pid_t c = CHILD(pause());
  char b[16];
  struct iovec l = {b, 9}, r = {secret, 9};
  long n = process_vm_readv(c, &l, 1, &r, 1, 0);
  if (n < 0 && (errno == ENOSYS || errno == EPERM)) SKIP("not permitted");
  EQ(n, 9);
  STREQ(b, "a secret");
  r.iov_base = (void *)8;
  ERR(process_vm_readv(c, &l, 1, &r, 1, 0), EFAULT);
  OK(kill(c, SIGKILL));
  JOIN_SIGNAL(c, SIGKILL);
}

/* Extended attributes, statx, openat2 and the other newer calls about files. */
#include "t.h"
#include <linux/openat2.h>
#include <sys/xattr.h>
#include <sys/sysmacros.h>

TEST(xattr_life) {
  t_in_folder();
  t_write_file("a", "");
  if (setxattr("a", "user.one", "1", 1, 0) < 0 && errno == EOPNOTSUPP) SKIP("no user attributes in /tmp");
  char b[300];
  EQ(getxattr("a", "user.one", b, sizeof b), 1);
  EQ(b[0], '1');
  EQ(getxattr("a", "user.one", 0, 0), 1);
  ERR(setxattr("a", "user.one", "2", 1, XATTR_CREATE), EEXIST);
  ERR(setxattr("a", "user.two", "2", 1, XATTR_REPLACE), ENODATA);
  OK(setxattr("a", "user.one", "22", 2, XATTR_REPLACE));
  ERR(getxattr("a", "user.one", b, 1), ERANGE);
  OK(setxattr("a", "user.empty", "", 0, 0));
  EQ(getxattr("a", "user.empty", b, sizeof b), 0);
  EQ(listxattr("a", 0, 0), 20);
  EQ(listxattr("a", b, sizeof b), 20);
  CHECK(memmem(b, 20, "user.one", 9) && memmem(b, 20, "user.empty", 11));
  ERR(listxattr("a", b, 5), ERANGE);
  OK(removexattr("a", "user.one"));
  ERR(removexattr("a", "user.one"), ENODATA);
  ERR(getxattr("a", "user.one", b, sizeof b), ENODATA);
  int fd = OK(open("a", O_RDONLY));
  OK(fsetxattr(fd, "user.fd", "x", 1, 0));
  EQ(fgetxattr(fd, "user.fd", b, sizeof b), 1);
  OK(rename("a", "b"));
  EQ(getxattr("b", "user.fd", b, sizeof b), 1);
  EQ(flistxattr(fd, b, sizeof b), 19);
  OK(fremovexattr(fd, "user.fd"));
}
TEST(xattr_errors) {
  t_in_folder();
  t_write_file("a", "");
  OK(symlink("a", "s"));
  OK(mkdir("d", 0755));
  if (setxattr("a", "user.one", "1", 1, 0) < 0 && errno == EOPNOTSUPP) SKIP("no user attributes in /tmp");
  char b[300], name[300] = "user.";
  ERR(setxattr("a", "user.one", "1", 1, 4), EINVAL);
  ERR(setxattr("a", "", "1", 1, 0), ERANGE);
  memset(name + 5, 'n', 290);
  name[256] = 0;
  ERR(setxattr("a", name, "1", 1, 0), ERANGE);
  ERR(setxattr("a", "user.big", b, 65537, 0), E2BIG);
  ERR(setxattr("a", "user.", "1", 1, 0), EINVAL);
  ERR(setxattr("a", "nothing.at.all", "1", 1, 0), EOPNOTSUPP);
  ERR(getxattr("a", "nothing.at.all", b, 10), EOPNOTSUPP);
  ERR(setxattr("a", (char *)8, "1", 1, 0), EFAULT);
  ERR(setxattr("a", "user.x", (char *)8, 1, 0), EFAULT);
  ERR(getxattr("none", "user.x", b, 1), ENOENT);
  ERR(lsetxattr("s", "user.x", "1", 1, 0), EPERM); /* none on links */
  EQ(getxattr("s", "user.one", b, 10), 1);
  ERR(lgetxattr("s", "user.one", b, 10), ENODATA);
  OK(setxattr("d", "user.dir", "1", 1, 0));
  EQ(getxattr("d", "user.dir", b, 10), 1);
  int fd = OK(open("a", O_PATH));
  ERR(fgetxattr(fd, "user.one", b, 1), EBADF);
  ERR(fgetxattr(99, "user.one", b, 1), EBADF);
}
TEST(statx_fields) {
  t_in_folder();
  t_write_file("a", "hello");
  OK(symlink("a", "s"));
  struct stat s;
  struct statx x;
  OK(stat("a", &s));
  memset(&x, 0xff, sizeof x);
  OK(statx(AT_FDCWD, "a", 0, STATX_BASIC_STATS | STATX_BTIME, &x));
  EQ(x.stx_mask & STATX_BASIC_STATS, STATX_BASIC_STATS);
  EQ(x.stx_mode, s.st_mode);
  EQ(x.stx_ino, s.st_ino);
  EQ(x.stx_size, 5);
  EQ(x.stx_nlink, 1);
  EQ(x.stx_uid, s.st_uid);
  EQ(x.stx_blksize, s.st_blksize);
  EQ(x.stx_blocks, s.st_blocks);
  EQ(makedev(x.stx_dev_major, x.stx_dev_minor), s.st_dev);
  EQ(x.stx_mtime.tv_sec, s.st_mtim.tv_sec);
  EQ(x.stx_mtime.tv_nsec, s.st_mtim.tv_nsec);
  EQ(x.stx_ctime.tv_nsec, s.st_ctim.tv_nsec);
  if (x.stx_mask & STATX_BTIME) CHECK(x.stx_btime.tv_sec <= x.stx_ctime.tv_sec);
  OK(statx(AT_FDCWD, "s", AT_SYMLINK_NOFOLLOW, STATX_TYPE, &x));
  EQ(x.stx_mode & S_IFMT, S_IFLNK);
  int fd = OK(open("a", O_RDONLY));
  OK(statx(fd, "", AT_EMPTY_PATH | AT_STATX_FORCE_SYNC, STATX_SIZE, &x));
  EQ(x.stx_size, 5);
  OK(statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, 0, &x));
  ERR(statx(fd, "", 0, STATX_SIZE, &x), ENOENT);
  ERR(statx(AT_FDCWD, "a", 0x10000000, STATX_SIZE, &x), EINVAL);
  ERR(statx(AT_FDCWD, "a", AT_STATX_FORCE_SYNC | AT_STATX_DONT_SYNC, STATX_SIZE, &x), EINVAL);
  ERR(statx(AT_FDCWD, "a", 0, STATX__RESERVED, &x), EINVAL);
  ERR(statx(AT_FDCWD, "a", 0, STATX_SIZE, (void *)8), EFAULT);
  ERR(statx(AT_FDCWD, "none", 0, STATX_SIZE, &x), ENOENT);
  ERR(statx(99, "a", 0, STATX_SIZE, &x), EBADF);
  OK(statx(AT_FDCWD, "/proc", 0, STATX_BASIC_STATS, &x));
  CHECK(x.stx_attributes_mask & STATX_ATTR_MOUNT_ROOT);
  CHECK(x.stx_attributes & STATX_ATTR_MOUNT_ROOT);
}

static long open2(int at, const char *path, uint64_t flags, uint64_t mode, uint64_t resolve) {
  struct open_how how = {flags, mode, resolve};
  return syscall(SYS_openat2, at, path, &how, sizeof how);
}
TEST(openat2_resolve) {
  t_in_folder();
  t_write_file("a", "");
  OK(mkdir("d", 0755));
  t_write_file("d/f", "");
  OK(symlink("../a", "d/up"));
  OK(symlink("f", "d/in"));
  OK(symlink("/d/f", "abs"));
  int here = OK(open(".", O_RDONLY)), d = OK(open("d", O_RDONLY));
  OK(close(OK(open2(here, "d/f", O_RDONLY, 0, 0))));
  OK(close(OK(open2(here, "n", O_RDWR | O_CREAT, 0600, 0))));
  ERR(open2(d, "../a", O_RDONLY, 0, RESOLVE_BENEATH), EXDEV);
  ERR(open2(d, "/etc", O_RDONLY, 0, RESOLVE_BENEATH), EXDEV);
  ERR(open2(d, "up", O_RDONLY, 0, RESOLVE_BENEATH), EXDEV);
  OK(close(OK(open2(d, "in", O_RDONLY, 0, RESOLVE_BENEATH))));
  OK(close(OK(open2(here, "d/../a", O_RDONLY, 0, RESOLVE_BENEATH))));
  ERR(open2(d, "up", O_RDONLY, 0, RESOLVE_IN_ROOT), ENOENT);
  OK(close(OK(open2(d, "../../f", O_RDONLY, 0, RESOLVE_IN_ROOT))));
  OK(close(OK(open2(here, "abs", O_RDONLY, 0, RESOLVE_IN_ROOT))));
  ERR(open2(d, "in", O_RDONLY, 0, RESOLVE_NO_SYMLINKS), ELOOP);
  ERR(open2(here, "d/in", O_RDONLY, 0, RESOLVE_NO_SYMLINKS), ELOOP);
  OK(close(OK(open2(d, "in", O_PATH | O_NOFOLLOW, 0, RESOLVE_NO_SYMLINKS))));
  ERR(open2(AT_FDCWD, "/proc/self/cwd", O_RDONLY, 0, RESOLVE_NO_MAGICLINKS), ELOOP);
  OK(close(OK(open2(d, "in", O_RDONLY, 0, RESOLVE_NO_MAGICLINKS))));
  ERR(open2(AT_FDCWD, "/proc/self/cwd", O_RDONLY, 0, RESOLVE_BENEATH), EXDEV);
  ERR(open2(AT_FDCWD, "/proc/self/stat", O_RDONLY, 0, RESOLVE_NO_XDEV), EXDEV);
}
TEST(openat2_arguments) {
  t_in_folder();
  struct { struct open_how how; uint64_t more; } big = {{O_RDONLY, 0, 0}, 0};
  OK(close(OK(syscall(SYS_openat2, AT_FDCWD, ".", &big, sizeof big))));
  big.more = 1;
  ERR(syscall(SYS_openat2, AT_FDCWD, ".", &big, sizeof big), E2BIG);
  ERR(syscall(SYS_openat2, AT_FDCWD, ".", &big, 16), EINVAL);
  ERR(syscall(SYS_openat2, AT_FDCWD, ".", &big, 8192), E2BIG);
  ERR(syscall(SYS_openat2, AT_FDCWD, ".", 8, sizeof big.how), EFAULT);
  ERR(open2(AT_FDCWD, ".", O_RDONLY | 1ull << 40, 0, 0), EINVAL);
  ERR(open2(AT_FDCWD, ".", O_RDONLY, 0600, 0), EINVAL);
  ERR(open2(AT_FDCWD, "n", O_RDWR | O_CREAT, 0200000, 0), EINVAL);
  ERR(open2(AT_FDCWD, ".", O_RDONLY, 0, 64), EINVAL);
  ERR(open2(AT_FDCWD, ".", O_RDONLY, 0, RESOLVE_BENEATH | RESOLVE_IN_ROOT), EINVAL);
  ERR(open2(AT_FDCWD, ".", O_PATH | O_RDWR, 0, 0), EINVAL);
}
TEST(faccessat2_and_fchmodat2) {
  t_in_folder();
  t_write_file("a", "");
  OK(symlink("a", "s"));
  OK(symlink("none", "broken"));
  OK(syscall(439, AT_FDCWD, "a", R_OK, AT_EACCESS));
  OK(syscall(439, AT_FDCWD, "broken", F_OK, AT_SYMLINK_NOFOLLOW));
  ERR(syscall(439, AT_FDCWD, "broken", F_OK, 0), ENOENT);
  ERR(syscall(439, AT_FDCWD, "a", 8, 0), EINVAL);
  ERR(syscall(439, AT_FDCWD, "a", 0, 4), EINVAL);
  int fd = OK(open("a", O_PATH));
  OK(syscall(439, fd, "", R_OK, AT_EMPTY_PATH));
  if (syscall(452, AT_FDCWD, "a", 0600, 0) < 0 && errno == ENOSYS) return;
  struct stat s;
  OK(stat("a", &s));
  EQ(s.st_mode & 07777, 0600);
  OK(syscall(452, fd, "", 0640, AT_EMPTY_PATH));
  ERR(syscall(452, AT_FDCWD, "s", 0600, AT_SYMLINK_NOFOLLOW), EOPNOTSUPP);
  ERR(syscall(452, AT_FDCWD, "a", 0600, 4), EINVAL);
}

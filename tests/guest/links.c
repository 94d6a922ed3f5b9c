/* Hard and symbolic links, special files. */
#include "t.h"
#include <sys/sysmacros.h>

TEST(hard_links) {
  t_in_folder();
  t_write_file("a", "one");
  OK(link("a", "b"));
  struct stat s, t;
  OK(stat("a", &s));
  OK(stat("b", &t));
  EQ(s.st_ino, t.st_ino);
  EQ(s.st_nlink, 2);
  t_write_file("b", "two");
  STREQ(t_read_file("a"), "two");
  OK(unlink("a"));
  OK(stat("b", &t));
  EQ(t.st_nlink, 1);
  ERR(link("b", "b"), EEXIST);
  ERR(link("a", "c"), ENOENT);
  OK(mkdir("d", 0700));
  ERR(link("d", "e"), EPERM);
}
TEST(link_at) {
  t_in_folder();
  t_write_file("a", "x");
  OK(symlink("a", "l"));
  OK(linkat(AT_FDCWD, "l", AT_FDCWD, "hl", 0));
  OK(linkat(AT_FDCWD, "l", AT_FDCWD, "ha", AT_SYMLINK_FOLLOW));
  struct stat s;
  OK(lstat("hl", &s));
  CHECK(S_ISLNK(s.st_mode));
  OK(lstat("ha", &s));
  CHECK(S_ISREG(s.st_mode));
  ERR(linkat(AT_FDCWD, "l", AT_FDCWD, "z", 0x8000), EINVAL);
}
TEST(symbolic_links) {
  t_in_folder();
  OK(symlink("target", "l"));
  char b[64] = {0};
  EQ(readlink("l", b, sizeof b), 6);
  STREQ(b, "target");
  EQ(readlink("l", b, 3), 3);
  ERR(readlink("l", b, 0), EINVAL);
  ERR(open("l", O_RDONLY), ENOENT);
  OK(close(OK(open("l", O_CREAT | O_WRONLY, 0600)))); /* makes the target */
  struct stat s;
  OK(lstat("target", &s));
  ERR(open("l", O_RDONLY | O_NOFOLLOW), ELOOP);
  ERR(open("l", O_CREAT | O_EXCL | O_WRONLY, 0600), EEXIST);
  int p = OK(open("l", O_PATH | O_NOFOLLOW));
  OK(fstat(p, &s));
  CHECK(S_ISLNK(s.st_mode));
  EQ(readlinkat(p, "", b, sizeof b), 6);
  ERR(readlink("target", b, sizeof b), EINVAL);
  ERR(symlink("", "e"), ENOENT);
  ERR(symlink("x", "l"), EEXIST);
}
TEST(loops) {
  t_in_folder();
  OK(symlink("b", "a"));
  OK(symlink("a", "b"));
  ERR(open("a", O_RDONLY), ELOOP);
  struct stat s;
  ERR(stat("a/x", &s), ELOOP);
  t_write_file("end", "x");
  char last[32] = "end", name[32];
  for (int i = 0; i < 40; i++) {
    snprintf(name, sizeof name, "c%d", i);
    OK(symlink(last, name));
    strcpy(last, name);
  }
  OK(stat("c39", &s)); /* 40 are followed, no more */
  OK(symlink("c39", "c40"));
  ERR(stat("c40", &s), ELOOP);
}
TEST(links_inside_paths) {
  t_in_folder();
  OK(mkdir("d", 0700));
  t_write_file("d/f", "x");
  OK(symlink("d", "l"));
  STREQ(t_read_file("l/f"), "x");
  OK(symlink("../d/f", "d/up"));
  STREQ(t_read_file("l/up"), "x");
  char abs[200];
  snprintf(abs, sizeof abs, "%s/d", t_dir);
  OK(symlink(abs, "abs"));
  STREQ(t_read_file("abs/f"), "x");
  struct stat s;
  OK(lstat("l/", &s));
  CHECK(S_ISDIR(s.st_mode));
  ERR(unlink("l/"), ENOTDIR);
  ERR(rmdir("l"), ENOTDIR);
  OK(rename("l", "m"));
  OK(lstat("m", &s));
  CHECK(S_ISLNK(s.st_mode));
}
TEST(device_nodes) {
  t_in_folder();
  int z = OK(open("/dev/zero", O_RDWR)), n = OK(open("/dev/null", O_RDWR)), f = OK(open("/dev/full", O_RDWR)), u = OK(open("/dev/urandom", O_RDONLY));
  char b[4096], c[4096];
  memset(b, 1, sizeof b);
  EQ(read(z, b, sizeof b), sizeof b);
  for (unsigned i = 0; i < sizeof b; i++) CHECK(b[i] == 0);
  EQ(read(n, b, 1), 0);
  EQ(write(n, b, sizeof b), sizeof b);
  ERR(write(f, b, 1), ENOSPC);
  EQ(read(f, b, 10), 10);
  EQ(read(u, b, sizeof b), sizeof b);
  EQ(read(u, c, sizeof c), sizeof c);
  CHECK(memcmp(b, c, sizeof b));
  struct stat s;
  OK(fstat(n, &s));
  CHECK(S_ISCHR(s.st_mode) && major(s.st_rdev) == 1 && minor(s.st_rdev) == 3);
}
TEST(mknod_kinds) {
  t_in_folder();
  OK(mknod("r", S_IFREG | 0640, 0));
  OK(mknod("f", S_IFIFO | 0640, 0));
  struct stat s;
  OK(stat("r", &s));
  CHECK(S_ISREG(s.st_mode));
  OK(stat("f", &s));
  CHECK(S_ISFIFO(s.st_mode));
  ERR(mknod("d", S_IFDIR | 0700, 0), EPERM);
  ERR(mknod("r", S_IFREG, 0), EEXIST);
}

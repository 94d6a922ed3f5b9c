/* Folders: making, listing, removing, renaming, walking. */
#include "t.h"

TEST(make_and_remove) {
  t_in_folder();
  OK(mkdir("a", 0751));
  struct stat s;
  OK(stat("a", &s));
  EQ(s.st_mode, S_IFDIR | 0751);
  ERR(mkdir("a", 0700), EEXIST);
  ERR(mkdir("no/b", 0700), ENOENT);
  OK(mkdirat(AT_FDCWD, "a/b/", 0700));
  ERR(rmdir("a"), ENOTEMPTY);
  ERR(rmdir("a/."), EINVAL);
  ERR(rmdir("a/b/.."), ENOTEMPTY);
  ERR(unlink("a"), EISDIR);
  OK(unlinkat(AT_FDCWD, "a/b", AT_REMOVEDIR));
  OK(rmdir("a"));
  ERR(rmdir("a"), ENOENT);
  t_write_file("f", "");
  ERR(rmdir("f"), ENOTDIR);
  ERR(mkdir("f/x", 0700), ENOTDIR);
}
TEST(link_counts) {
  t_in_folder();
  struct stat s;
  OK(mkdir("a", 0700));
  OK(mkdir("a/b", 0700));
  OK(stat("a/b", &s));
  say("an empty folder has %ld links", (long)s.st_nlink > 1 ? 2l : (long)s.st_nlink);
}
static int compare(const void *a, const void *b) { return strcmp(*(char **)a, *(char **)b); }
TEST(listing) {
  t_in_folder();
  for (int i = 0; i < 300; i++) {
    char n[32];
    snprintf(n, sizeof n, "file-%03d", i);
    t_write_file(n, "");
  }
  OK(mkdir("dir", 0700));
  OK(symlink("x", "sym"));
  OK(mkfifo("fifo", 0600));
  DIR *d = opendir(".");
  CHECK(d);
  char *names[400];
  int n = 0;
  struct dirent *e;
  while ((e = readdir(d))) {
    struct stat s;
    OK(lstat(e->d_name, &s));
    if (strcmp(e->d_name, "..")) EQ(s.st_ino, e->d_ino);
    if (e->d_type != DT_UNKNOWN) EQ(e->d_type, IFTODT(s.st_mode));
    names[n++] = strdup(e->d_name);
  }
  EQ(n, 305);
  qsort(names, n, sizeof *names, compare);
  STREQ(names[0], ".");
  STREQ(names[1], "..");
  STREQ(names[2], "dir");
  STREQ(names[304], "sym");
  rewinddir(d);
  CHECK(readdir(d));
  long at = telldir(d);
  e = readdir(d);
  char second[256];
  strcpy(second, e->d_name);
  seekdir(d, at);
  e = readdir(d);
  STREQ(e->d_name, second);
  closedir(d);
}
TEST(listing_while_removing) {
  t_in_folder();
  for (int i = 0; i < 500; i++) {
    char n[32];
    snprintf(n, sizeof n, "%d", i);
    t_write_file(n, "");
  }
  DIR *d = opendir(".");
  struct dirent *e;
  int n = 0;
  while ((e = readdir(d)))
    if (e->d_name[0] != '.') {
      OK(unlink(e->d_name));
      n++;
    }
  EQ(n, 500);
  closedir(d);
}
TEST(getdents_edges) {
  t_in_folder();
  int fd = OK(open(".", O_RDONLY));
  char b[8];
  ERR(syscall(SYS_getdents64, fd, b, sizeof b), EINVAL);
  int f = OK(open("a", O_CREAT | O_RDWR, 0600));
  char c[512];
  ERR(syscall(SYS_getdents64, f, c, sizeof c), ENOTDIR);
  ERR(read(fd, c, 1), EISDIR);
  int gone = (OK(mkdir("g", 0700)), OK(open("g", O_RDONLY)));
  OK(rmdir("g"));
  ERR(syscall(SYS_getdents64, gone, c, sizeof c), ENOENT);
}
TEST(cwd) {
  t_in_folder();
  char b[PATH_MAX];
  CHECK(getcwd(b, sizeof b));
  STREQ(b, t_dir);
  OK(mkdir("a", 0700));
  OK(chdir("a"));
  CHECK(getcwd(b, sizeof b));
  STREQ(strrchr(b, '/'), "/a");
  OK(chdir(".."));
  int fd = OK(open("a", O_RDONLY | O_DIRECTORY));
  OK(fchdir(fd));
  CHECK(getcwd(b, sizeof b));
  STREQ(strrchr(b, '/'), "/a");
  errno = 0;
  CHECK(!getcwd(b, 2));
  EQ(errno, ERANGE);
  OK(rmdir("../a"));
  CHECK(syscall(SYS_getcwd, b, sizeof b) == -1);
  EQ(errno, ENOENT);
  ERR(open("x", O_CREAT | O_WRONLY, 0600), ENOENT);
  ERR(chdir("nowhere"), ENOENT);
  OK(chdir("/"));
  ERR(chdir("/proc/self/stat"), ENOTDIR);
}
TEST(rename_files) {
  t_in_folder();
  t_write_file("a", "A");
  t_write_file("b", "B");
  OK(rename("a", "b"));
  STREQ(t_read_file("b"), "A");
  ERR(rename("a", "c"), ENOENT);
  OK(mkdir("d", 0700));
  ERR(rename("b", "d"), EISDIR);
  ERR(rename("d", "b"), ENOTDIR);
  OK(rename("b", "d/b"));
  STREQ(t_read_file("d/b"), "A");
  OK(link("d/b", "same"));
  OK(rename("d/b", "same")); /* the same file: nothing happens */
  STREQ(t_read_file("d/b"), "A");
}
TEST(rename_folders) {
  t_in_folder();
  OK(mkdir("a", 0700));
  OK(mkdir("a/b", 0700));
  OK(mkdir("e", 0700));
  ERR(rename("a", "a/b/c"), EINVAL);
  OK(rename("a", "e"));
  struct stat s;
  OK(stat("e/b", &s));
  OK(mkdir("n", 0700));
  t_write_file("n/f", "");
  ERR(rename("e", "n"), ENOTEMPTY);
  OK(rename("n", "e/b/n"));
  OK(stat("e/b/n/f", &s));
}
TEST(rename_flags) {
  t_in_folder();
  t_write_file("a", "A");
  t_write_file("b", "B");
  ERR(syscall(SYS_renameat2, AT_FDCWD, "a", AT_FDCWD, "b", 1 /* NOREPLACE */), EEXIST);
  OK(syscall(SYS_renameat2, AT_FDCWD, "a", AT_FDCWD, "c", 1));
  STREQ(t_read_file("c"), "A");
  ERR(syscall(SYS_renameat2, AT_FDCWD, "b", AT_FDCWD, "c", 0x100), EINVAL);
  if (syscall(SYS_renameat2, AT_FDCWD, "b", AT_FDCWD, "c", 2 /* EXCHANGE */) == 0) {
    STREQ(t_read_file("b"), "A");
    STREQ(t_read_file("c"), "B");
  }
}
TEST(at_paths) {
  t_in_folder();
  OK(mkdir("a", 0700));
  int d = OK(open("a", O_RDONLY | O_DIRECTORY));
  OK(close(OK(openat(d, "f", O_CREAT | O_WRONLY, 0600))));
  struct stat s;
  OK(stat("a/f", &s));
  OK(renameat(d, "f", AT_FDCWD, "g"));
  OK(stat("g", &s));
  OK(close(OK(openat(d, "../g", O_RDONLY))));
  ERR(openat(99, "g", O_RDONLY), EBADF);
  int f = OK(open("g", O_RDONLY));
  ERR(openat(f, "x", O_RDONLY), ENOTDIR);
  char abs[200];
  snprintf(abs, sizeof abs, "%s/g", t_dir);
  OK(close(OK(openat(99, abs, O_RDONLY))));
}
TEST(dots_and_slashes) {
  t_in_folder();
  OK(mkdir("a", 0700));
  t_write_file("a/f", "x");
  STREQ(t_read_file("a//.///f"), "x");
  STREQ(t_read_file("a/../a/f"), "x");
  ERR(open("a/f/", O_RDONLY), ENOTDIR);
  ERR(open("a/f/.", O_RDONLY), ENOTDIR);
  ERR(open("new/", O_CREAT | O_WRONLY, 0600), EISDIR);
  struct stat s, r;
  OK(stat("/..", &s));
  OK(stat("/", &r));
  EQ(s.st_ino, r.st_ino);
}
TEST(deep_trees) {
  t_in_folder();
  for (int i = 0; i < 60; i++) {
    OK(mkdir("deep-folder-name", 0700));
    OK(chdir("deep-folder-name"));
  }
  t_write_file("leaf", "x");
  char b[PATH_MAX];
  CHECK(getcwd(b, sizeof b));
  EQ(strlen(b), strlen(t_dir) + 60 * 17);
  OK(chdir(t_dir));
  strcat(b, "/leaf");
  STREQ(t_read_file(b), "x");
}
TEST(system_folders) {
  struct stat s;
  const char *n[] = {"/", "/usr/bin", "/etc/passwd", "/dev/null", "/dev/zero", "/dev/full", "/dev/urandom", "/dev/tty", "/dev/ptmx", "/proc/self", "/proc/1", "/tmp", "/dev/random", "/dev/pts", "/dev/shm", "/dev/fd", "/dev/stdin"};
  for (unsigned i = 0; i < sizeof n / sizeof *n; i++) {
    OK(stat(n[i], &s));
    if (strcmp(n[i], "/dev/stdin")) say("%s %o %lx", n[i], s.st_mode & S_IFMT, (long)s.st_rdev);
  }
}

/* inotify(7): which events come, in which order, and when a watch ends. */
#include "t.h"
#include <sys/inotify.h>

static char events[4096];
static int got;

/* All that is queued now, as text: "MASK name;…" without the watch. */
static const char *drain(int fd) {
  static char text[4096];
  text[0] = 0;
  for (;;) {
    ssize_t n = read(fd, events, sizeof events);
    if (n < 0) {
      EQ(errno, EAGAIN);
      return text;
    }
    for (char *p = events; p < events + n;) {
      struct inotify_event *e = (void *)p;
      sprintf(text + strlen(text), "%x %s;", e->mask, e->len ? e->name : "");
      got = e->cookie;
      p += sizeof *e + e->len;
    }
  }
}
TEST(create_write_delete) {
  t_in_folder();
  int fd = OK(inotify_init1(IN_NONBLOCK | IN_CLOEXEC));
  EQ(OK(inotify_add_watch(fd, ".", IN_ALL_EVENTS)), 1);
  STREQ(drain(fd), "");
  int f = OK(open("a", O_CREAT | O_RDWR, 0600));
  STREQ(drain(fd), "100 a;20 a;");
  EQ(write(f, "x", 1), 1);
  EQ(write(f, "y", 1), 1); /* the same event again is merged */
  STREQ(drain(fd), "2 a;");
  char c;
  EQ(pread(f, &c, 1, 0), 1);
  STREQ(drain(fd), "1 a;");
  OK(fchmod(f, 0640));
  STREQ(drain(fd), "4 a;");
  OK(ftruncate(f, 0));
  STREQ(drain(fd), "2 a;");
  OK(close(f));
  STREQ(drain(fd), "8 a;");
  f = OK(open("a", O_RDONLY));
  OK(close(f));
  STREQ(drain(fd), "20 a;10 a;");
  OK(mkdir("d", 0755));
  STREQ(drain(fd), "40000100 d;");
  OK(rmdir("d"));
  STREQ(drain(fd), "40000200 d;");
  OK(link("a", "b"));
  STREQ(drain(fd), "100 b;");
  OK(unlink("b"));
  STREQ(drain(fd), "200 b;");
  OK(symlink("a", "s"));
  STREQ(drain(fd), "100 s;");
  OK(close(fd));
}
TEST(moves) {
  t_in_folder();
  OK(mkdir("d", 0755));
  OK(mkdir("e", 0755));
  t_write_file("d/a", "");
  int fd = OK(inotify_init1(IN_NONBLOCK));
  OK(inotify_add_watch(fd, "d", IN_MOVE | IN_MOVE_SELF));
  OK(inotify_add_watch(fd, "e", IN_MOVE | IN_CREATE | IN_DELETE));
  OK(rename("d/a", "e/b"));
  struct inotify_event *e = (void *)events;
  EQ(read(fd, events, sizeof events), 64);
  EQ(e->wd, 1);
  EQ(e->mask, IN_MOVED_FROM);
  EQ(e->len, 16);
  STREQ(e->name, "a");
  unsigned cookie = e->cookie;
  CHECK(cookie != 0);
  e = (void *)(events + 32);
  EQ(e->wd, 2);
  EQ(e->mask, IN_MOVED_TO);
  EQ(e->cookie, cookie);
  STREQ(e->name, "b");
  OK(rename("e/b", "e/c"));
  STREQ(drain(fd), "40 b;80 c;");
  CHECK((unsigned)got != cookie);
  OK(rename("d", "f"));
  STREQ(drain(fd), "800 ;");
  OK(rename("e/c", "c"));
  STREQ(drain(fd), "40 c;");
}
TEST(watched_file_itself) {
  t_in_folder();
  t_write_file("a", "text");
  int fd = OK(inotify_init1(IN_NONBLOCK));
  int wd = OK(inotify_add_watch(fd, "a", IN_ALL_EVENTS));
  OK(link("a", "b"));
  STREQ(drain(fd), "4 ;");
  OK(rename("a", "c"));
  STREQ(drain(fd), "800 ;");
  OK(unlink("b"));
  STREQ(drain(fd), "4 ;");
  int f = OK(open("c", O_RDONLY));
  OK(unlink("c")); /* still open: not gone yet */
  STREQ(drain(fd), "20 ;4 ;");
  OK(close(f));
  STREQ(drain(fd), "10 ;400 ;8000 ;");
  ERR(inotify_rm_watch(fd, wd), EINVAL);
}
TEST(watched_folder_removed) {
  t_in_folder();
  OK(mkdir("d", 0755));
  int fd = OK(inotify_init1(IN_NONBLOCK));
  OK(inotify_add_watch(fd, "d", IN_ALL_EVENTS));
  OK(rmdir("d"));
  STREQ(drain(fd), "400 ;8000 ;");
}
TEST(masks) {
  t_in_folder();
  t_write_file("a", "");
  OK(symlink("a", "s"));
  int fd = OK(inotify_init1(IN_NONBLOCK));
  ERR(inotify_add_watch(fd, ".", 0), EINVAL);
  ERR(inotify_add_watch(fd, "none", IN_ALL_EVENTS), ENOENT);
  ERR(inotify_add_watch(0, ".", IN_ALL_EVENTS), EINVAL);
  ERR(inotify_add_watch(99, ".", IN_ALL_EVENTS), EBADF);
  ERR(inotify_add_watch(fd, "a", IN_ALL_EVENTS | IN_ONLYDIR), ENOTDIR);
  ERR(inotify_add_watch(fd, (char *)8, IN_ALL_EVENTS), EFAULT);
  ERR(inotify_init1(1), EINVAL);
  ERR(inotify_rm_watch(fd, 5), EINVAL);
  int wd = OK(inotify_add_watch(fd, ".", IN_CREATE));
  EQ(OK(inotify_add_watch(fd, ".", IN_DELETE)), wd); /* replaced */
  t_write_file("b", "");
  STREQ(drain(fd), "");
  OK(unlink("b"));
  STREQ(drain(fd), "200 b;");
  EQ(OK(inotify_add_watch(fd, ".", IN_CREATE | IN_MASK_ADD)), wd);
  t_write_file("b", "");
  OK(unlink("b"));
  STREQ(drain(fd), "100 b;200 b;");
  ERR(inotify_add_watch(fd, ".", IN_CREATE | IN_MASK_CREATE), EEXIST);
  ERR(inotify_add_watch(fd, ".", IN_CREATE | IN_MASK_CREATE | IN_MASK_ADD), EINVAL);
  int link_wd = OK(inotify_add_watch(fd, "s", IN_ATTRIB | IN_DONT_FOLLOW));
  int file_wd = OK(inotify_add_watch(fd, "s", IN_ATTRIB));
  CHECK(link_wd != file_wd);
  OK(chmod("a", 0600));
  EQ(read(fd, events, sizeof events), 16);
  EQ(((struct inotify_event *)events)->wd, file_wd);
  OK(inotify_rm_watch(fd, wd));
  STREQ(drain(fd), "8000 ;");
  ERR(inotify_rm_watch(fd, wd), EINVAL);
}
TEST(one_shot_and_unlinked) {
  t_in_folder();
  int fd = OK(inotify_init1(IN_NONBLOCK));
  int wd = OK(inotify_add_watch(fd, ".", IN_CREATE | IN_ONESHOT));
  t_write_file("a", "");
  t_write_file("b", "");
  STREQ(drain(fd), "100 a;8000 ;");
  ERR(inotify_rm_watch(fd, wd), EINVAL);
  int f = OK(open("a", O_RDWR));
  OK(inotify_add_watch(fd, ".", IN_MODIFY | IN_EXCL_UNLINK));
  EQ(write(f, "x", 1), 1);
  STREQ(drain(fd), "2 a;");
  OK(unlink("a"));
  EQ(write(f, "x", 1), 1);
  STREQ(drain(fd), "");
}
TEST(reading) {
  t_in_folder();
  int fd = OK(inotify_init1(IN_NONBLOCK));
  struct pollfd p = {fd, POLLIN | POLLOUT, 0};
  EQ(poll(&p, 1, 0), 0);
  ERR(read(fd, events, sizeof events), EAGAIN);
  OK(inotify_add_watch(fd, ".", IN_CREATE));
  t_write_file("a_longer_name_of_a_file", "");
  t_write_file("b", "");
  EQ(poll(&p, 1, 0), 1);
  EQ(p.revents, POLLIN);
  int n = 0;
  OK(ioctl(fd, FIONREAD, &n));
  EQ(n, 16 + 32 + 16 + 16);
  ERR(read(fd, events, 15), EINVAL);
  ERR(read(fd, events, 16), EINVAL);
  EQ(read(fd, events, 60), 48); /* whole events only */
  EQ(read(fd, events, sizeof events), 32);
  ERR(write(fd, events, 4), EBADF);
  ERR(pread(fd, events, 64, 0), ESPIPE);
  OK(lseek(fd, 0, SEEK_SET));
}
TEST(reader_is_woken) {
  t_in_folder();
  int fd = OK(inotify_init());
  OK(inotify_add_watch(fd, ".", IN_CREATE));
  pid_t child = CHILD(t_ms(100); t_write_file("a", ""));
  EQ(read(fd, events, sizeof events), 32);
  JOIN(child);
}
TEST(queue_overflows) {
  t_in_folder();
  int fd = OK(inotify_init1(IN_NONBLOCK));
  OK(inotify_add_watch(fd, ".", IN_OPEN | IN_CLOSE));
  t_write_file("a", "");
  t_write_file("b", "");
  drain(fd);
  int a = OK(open("a", O_RDONLY)), last = 0, count = 0;
  for (int i = 0; i < 20000; i++) OK(close(open(i & 1 ? "a" : "b", O_RDONLY)));
  for (;;) {
    ssize_t n = read(fd, events, sizeof events);
    if (n < 0) break;
    for (char *p = events; p < events + n; count++) {
      struct inotify_event *e = (void *)p;
      last = e->mask;
      if (last == IN_Q_OVERFLOW) EQ(e->wd, -1);
      p += sizeof *e + e->len;
    }
  }
  EQ(last, IN_Q_OVERFLOW);
  EQ(count, 16385);
  OK(close(a));
}
TEST(two_instances_and_processes) {
  t_in_folder();
  int one = OK(inotify_init1(IN_NONBLOCK)), two = OK(inotify_init1(IN_NONBLOCK));
  OK(inotify_add_watch(one, ".", IN_CREATE));
  OK(inotify_add_watch(two, ".", IN_CREATE | IN_CLOSE_WRITE));
  pid_t child = CHILD(t_write_file("a", "x"));
  JOIN(child);
  STREQ(drain(one), "100 a;");
  STREQ(drain(two), "100 a;8 a;");
}

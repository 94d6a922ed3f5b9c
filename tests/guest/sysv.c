/* System V shared memory, semaphores and message queues; POSIX shared memory and semaphores. */
#include "t.h"
#include <semaphore.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>

TEST(shm_between_processes) {
  int id = OK(shmget(IPC_PRIVATE, 5000, IPC_CREAT | 0600));
  volatile int *p = shmat(id, 0, 0);
  CHECK(p != (void *)-1);
  EQ(p[0], 0);
  pid_t c = CHILD({
    volatile int *q = shmat(id, 0, 0);
    CHECK(q != (void *)-1 && q != p);
    q[1] = 77;
    OK(shmdt((void *)q));
    p[2] = 78; /* the attachment is inherited */
  });
  JOIN(c);
  EQ(p[1], 77);
  EQ(p[2], 78);
  struct shmid_ds d;
  OK(shmctl(id, IPC_STAT, &d));
  EQ(d.shm_segsz, 5000);
  EQ(d.shm_nattch, 1);
  EQ(d.shm_cpid, getpid());
  OK(shmctl(id, IPC_RMID, 0));
  p[3] = 1; /* lives while attached */
  OK(shmdt((void *)p));
  ERR(shmctl(id, IPC_STAT, &d), EINVAL);
  ERR(shmdt((void *)p), EINVAL);
}
TEST(shm_keys_and_errors) {
  key_t k = 0x7e570000 | (getpid() & 0xffff);
  int id = OK(shmget(k, 4096, IPC_CREAT | IPC_EXCL | 0600));
  ERR(shmget(k, 4096, IPC_CREAT | IPC_EXCL | 0600), EEXIST);
  EQ(shmget(k, 0, 0), id);
  ERR(shmget(k, 8192, 0), EINVAL);
  ERR(shmget(k + 0x10000, 4096, 0), ENOENT);
  ERR(shmget(IPC_PRIVATE, 0, IPC_CREAT | 0600), EINVAL);
  errno = 0;
  CHECK(shmat(id, (void *)123, 0) == (void *)-1 && errno == EINVAL);
  char *p = shmat(id, 0, SHM_RDONLY);
  CHECK(p != (void *)-1);
  signal(SIGSEGV, SIG_DFL);
  pid_t c = CHILD(p[0] = 1);
  JOIN_SIGNAL(c, SIGSEGV);
  OK(shmctl(id, IPC_RMID, 0));
  CHECK(shmat(-1, 0, 0) == (void *)-1 && errno == EINVAL);
}
TEST(shm_after_exec) {
  int id = OK(shmget(IPC_PRIVATE, 4096, 0600));
  CHECK(shmat(id, 0, 0) != (void *)-1);
  pid_t c = CHILD(execl("/bin/true", "true", NULL));
  JOIN(c);
  struct shmid_ds d;
  OK(shmctl(id, IPC_STAT, &d));
  EQ(d.shm_nattch, 1);
  OK(shmctl(id, IPC_RMID, 0));
}
static int op(int id, int n, int delta, int flags) {
  struct sembuf b = {n, delta, flags};
  return semop(id, &b, 1);
}
TEST(semaphores) {
  int id = OK(semget(IPC_PRIVATE, 2, 0600));
  EQ(semctl(id, 0, GETVAL), 0);
  OK(semctl(id, 0, SETVAL, 3));
  OK(op(id, 0, -2, 0));
  EQ(semctl(id, 0, GETVAL), 1);
  ERR(op(id, 0, -2, IPC_NOWAIT), EAGAIN);
  ERR(op(id, 0, 0, IPC_NOWAIT), EAGAIN);
  ERR(op(id, 5, 1, 0), EFBIG);
  pid_t c = CHILD({
    OK(op(id, 1, -1, 0));
    EQ(semctl(id, 1, GETVAL), 0);
  });
  t_ms(40);
  EQ(semctl(id, 1, GETNCNT), 1);
  OK(op(id, 1, 1, 0));
  JOIN(c);
  EQ(semctl(id, 1, GETPID), c);
  struct sembuf two[2] = {{0, -1, 0}, {1, -1, IPC_NOWAIT}};
  ERR(semop(id, two, 2), EAGAIN); /* all or nothing */
  EQ(semctl(id, 0, GETVAL), 1);
  unsigned short all[2] = {4, 5};
  OK(semctl(id, 0, SETALL, all));
  EQ(semctl(id, 1, GETVAL), 5);
  OK(semctl(id, 0, IPC_RMID));
  ERR(op(id, 0, 1, 0), EINVAL);
}
TEST(semaphore_undo) {
  int id = OK(semget(IPC_PRIVATE, 1, 0600));
  OK(semctl(id, 0, SETVAL, 5));
  pid_t c = CHILD(OK(op(id, 0, -3, SEM_UNDO)));
  JOIN(c);
  EQ(semctl(id, 0, GETVAL), 5);
  OK(semctl(id, 0, IPC_RMID));
}
TEST(semaphore_removed_while_waiting) {
  int id = OK(semget(IPC_PRIVATE, 1, 0600));
  pid_t c = CHILD(ERR(op(id, 0, -1, 0), EIDRM));
  t_ms(40);
  OK(semctl(id, 0, IPC_RMID));
  JOIN(c);
}
TEST(message_queues) {
  int id = OK(msgget(IPC_PRIVATE, 0600));
  struct { long kind; char text[32]; } m = {2, "two"}, r;
  OK(msgsnd(id, &m, 4, 0));
  m.kind = 1;
  strcpy(m.text, "one");
  OK(msgsnd(id, &m, 4, 0));
  EQ(msgrcv(id, &r, 32, 1, 0), 4);
  STREQ(r.text, "one");
  ERR(msgrcv(id, &r, 32, 1, IPC_NOWAIT), ENOMSG);
  ERR(msgrcv(id, &r, 2, 0, 0), E2BIG);
  EQ(msgrcv(id, &r, 2, -5, MSG_NOERROR), 2);
  EQ(r.kind, 2);
  pid_t c = CHILD({
    EQ(msgrcv(id, &r, 32, 0, 0), 6);
    STREQ(r.text, "later");
  });
  t_ms(30);
  strcpy(m.text, "later");
  OK(msgsnd(id, &m, 6, 0));
  JOIN(c);
  struct msqid_ds d;
  OK(msgctl(id, IPC_STAT, &d));
  EQ(d.msg_qnum, 0);
  m.kind = 0;
  ERR(msgsnd(id, &m, 4, 0), EINVAL);
  OK(msgctl(id, IPC_RMID, 0));
}
TEST(posix_shared_memory) {
  char n[64];
  snprintf(n, sizeof n, "/guest-test.%d", getpid());
  int fd = OK(shm_open(n, O_RDWR | O_CREAT | O_EXCL, 0600));
  OK(ftruncate(fd, 4096));
  volatile int *p = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  pid_t c = CHILD({
    int f = OK(shm_open(n, O_RDWR, 0));
    volatile int *q = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, f, 0);
    q[0] = 5;
  });
  JOIN(c);
  EQ(p[0], 5);
  OK(shm_unlink(n));
  ERR(shm_open(n, O_RDWR, 0), ENOENT);
}
TEST(posix_semaphores) {
  char n[64];
  snprintf(n, sizeof n, "/guest-test.%d", getpid());
  sem_t *s = sem_open(n, O_CREAT | O_EXCL, 0600, 0);
  CHECK(s != SEM_FAILED);
  pid_t c = CHILD({
    sem_t *t = sem_open(n, 0);
    t_ms(30);
    OK(sem_post(t));
  });
  OK(sem_wait(s));
  ERR(sem_trywait(s), EAGAIN);
  struct timespec t;
  clock_gettime(CLOCK_REALTIME, &t);
  ERR(sem_timedwait(s, &t), ETIMEDOUT);
  OK(sem_unlink(n));
  JOIN(c);
}

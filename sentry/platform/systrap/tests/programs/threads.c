#include <stdio.h>
#include <pthread.h>
#include <unistd.h>
#include <stdlib.h>
static pthread_mutex_t m = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t c = PTHREAD_COND_INITIALIZER;
static long count; static int turn;
static __thread int mine;
static void *work(void *a) {
    mine = (long)a;
    for (int i = 0; i < 5000; i++) { pthread_mutex_lock(&m); count++; pthread_mutex_unlock(&m); if (i % 512 == 0) getppid(); }
    return (void *)(long)mine;
}
static void *ping(void *a) {
    for (int i = 0; i < 300; i++) {
        pthread_mutex_lock(&m);
        while (turn != (long)a) pthread_cond_wait(&c, &m);
        turn = !turn;
        pthread_cond_broadcast(&c);
        pthread_mutex_unlock(&m);
    }
    return 0;
}
static void *quick(void *a) { return a; }
int main(void) {
    pthread_t t[8];
    void *r;
    for (long i = 0; i < 8; i++) if (pthread_create(&t[i], 0, work, (void *)i)) return 1;
    for (long i = 0; i < 8; i++) { pthread_join(t[i], &r); if ((long)r != i) return 2; }
    if (count != 40000) return 3;
    for (long i = 0; i < 2; i++) if (pthread_create(&t[i], 0, ping, (void *)i)) return 4;
    for (long i = 0; i < 2; i++) pthread_join(t[i], &r);
    for (long i = 0; i < 300; i++) { if (pthread_create(&t[0], 0, quick, (void *)i)) return 5; pthread_join(t[0], &r); if ((long)r != i) return 6; }
    printf("threads ok\n");
    return 0;
}

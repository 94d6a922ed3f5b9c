# seconds: 90
# needs: /usr/bin/gcc
cat > r.c <<'EOF'
#include <pthread.h>
#include <stdio.h>
static int n; static pthread_mutex_t m = PTHREAD_MUTEX_INITIALIZER;
static void *w(void *a) { for (int i = 0; i < 100; i++) { if (a) pthread_mutex_lock(&m); n++; if (a) pthread_mutex_unlock(&m); } return 0; }
int main(int c, char **v) { pthread_t t[2]; for (int i = 0; i < 2; i++) pthread_create(t + i, 0, w, c > 1 ? 0 : &m); for (int i = 0; i < 2; i++) pthread_join(t[i], 0); printf("done\n"); return 0; }
EOF
gcc -g -fsanitize=thread -o r r.c && ./r; echo $?
./r race > o 2>&1; echo $?; grep -o 'WARNING: ThreadSanitizer: data race' o | head -1

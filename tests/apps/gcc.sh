# seconds: 180
# needs: /usr/bin/gcc
cat > a.c <<'EOF'
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
static long sum; static pthread_mutex_t m = PTHREAD_MUTEX_INITIALIZER;
static void *w(void *a) { for (int i = 0; i < 1000; i++) { pthread_mutex_lock(&m); sum += (long)a; pthread_mutex_unlock(&m); } return 0; }
int main(int c, char **v) { pthread_t t[4]; for (long i = 0; i < 4; i++) pthread_create(t + i, 0, w, (void *)i); for (int i = 0; i < 4; i++) pthread_join(t[i], 0);
  printf("%ld %d %s\n", sum, c, c > 1 ? v[1] : ""); char *p = malloc(10); if (c > 2) { p[10] = 1; } free(p); return 3; }
EOF
gcc -O2 -pthread -o a a.c && ./a x; echo $?
gcc -O0 -static -pthread -o s a.c && ./s y; echo $?
gcc -g -fsanitize=address -pthread -o asan a.c && ./asan z; echo $?
./asan z overflow > o 2>&1; echo $?; grep -o 'ERROR: AddressSanitizer: heap-buffer-overflow' o | head -1
gcc -g -fsanitize=undefined -o ub -x c - <<'EOF' && ./ub 2>&1 | sed 's/.*runtime/runtime/'
#include <limits.h>
int main(int c, char **v) { int x = INT_MAX; x += c; return x == 0; }
EOF
gcc -shared -fPIC -o libf.so -x c - <<< 'int f(int x) { return x * 2; }'
gcc -o dl -x c - -ldl <<'EOF' && ./dl
#include <dlfcn.h>
#include <stdio.h>
int main() { void *h = dlopen("./libf.so", RTLD_NOW); int (*f)(int) = dlsym(h, "f"); printf("%d\n", f(21)); return dlclose(h); }
EOF
echo 'int main( {' > bad.c; gcc bad.c 2>&1 | grep -c error; gcc -E -dM - < /dev/null | wc -l | grep -c .
cat > f.c <<'EOF'
#include <stdio.h>
int main() { FILE *f = fopen("data", "w"); for (int i = 0; i < 100000; i++) fprintf(f, "%d\n", i); fclose(f); f = fopen("data", "r"); long s = 0; int x; while (fscanf(f, "%d", &x) == 1) s += x; printf("%ld\n", s); }
EOF
gcc -O1 -g -pg -o f f.c && ./f && test -s gmon.out && echo profiled; gcc --coverage -o cov f.c && ./cov && ls *.gcda | wc -l

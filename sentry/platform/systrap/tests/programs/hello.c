#include <stdio.h>
#include <unistd.h>
#include <sys/syscall.h>
int main(int argc, char **argv) { printf("hello %d\n", getpid()); fflush(stdout); if (argc > 1) syscall(1000); _exit(7); }

# seconds: 120
# needs: /usr/bin/make /usr/bin/gcc
cat > Makefile <<'EOF'
N := $(shell seq 1 16)
OBJ := $(N:%=o/f%.o)
prog: $(OBJ) o/main.o ; @gcc -o $@ $^
o/f%.o: o/f%.c ; @gcc -c -O1 -o $@ $<
o/main.o: o/main.c ; @gcc -c -o $@ $<
o/f%.c: | o ; @echo 'int f$*(void) { return $*; }' > $@
o/main.c: | o ; @(for i in $(N); do echo "int f$$i(void);"; done; echo '#include <stdio.h>'; echo 'int main() { int s = 0;'; for i in $(N); do echo "s += f$$i();"; done; echo 'printf("%d", s); puts(""); return 0; }') > $@
o: ; @mkdir -p o
fail: ; @exit 3
.PRECIOUS: o/f%.c
EOF
make -j2 prog && ./prog; make -j2 prog; touch o/f3.c; make -j2 prog && ./prog; make fail 2>&1; echo $?; make -n prog | wc -l; make -j4 -B prog && ./prog

# seconds: 240
# needs: /usr/bin/gcc
# The yardstick runs to its end, static and dynamic, network aside; its numbers differ, its names do not.
src=$(dirname "$0")/../bench/micro.c
gcc -O1 -w -pthread -static -o static "$src" && gcc -O1 -w -pthread -o dynamic "$src" || exit 1
names=$(grep -oE '(B|B1)\("[a-z0-9_]+"|want\("[a-z0-9_]+"' "$src" | grep -oE '"[a-z0-9_]+' | tr -d '"' | sort -u | grep -v tcp)
export MICRO_DIR=$PWD
for kind in static dynamic; do ./$kind $names > out; echo "$kind $?"; awk '{print $1, NF}' out; done

# Bash: traps, background jobs, wait, signals, process substitution, coprocesses.
trap 'echo exit trap' EXIT
trap 'echo got USR1' USR1
kill -USR1 $$
sleep 0.1 & p=$!
wait $p; echo wait $?
(exit 5) & wait $!; echo $?
# Killed before it has exec'd, a child of bash still runs the exit trap that it inherited, on the host too.
sleep 100 & p=$!; until grep -q sleep /proc/$p/comm; do :; done; kill $p; wait $p 2>/dev/null; echo killed $?
sleep 100 & p=$!; kill -9 $p; wait $p 2>/dev/null; echo killed $?
for i in 1 2 3; do (sleep 0.0$i; echo job $i > j$i) & done; wait; cat j1 j2 j3; rm j?
diff <(seq 5) <(seq 5) && echo same
comm -12 <(seq 1 2 20) <(seq 1 3 20) | tr '\n' ' '; echo
coproc cat; echo through >&${COPROC[1]}; read -u ${COPROC[0]} line; echo $line; eval "exec ${COPROC[1]}>&-"; wait
read -t 0.2 x < <(sleep 1) ; test $? -gt 128 && echo read timed out
mkfifo pipe; (echo via fifo > pipe &) ; cat pipe; rm pipe
set -o pipefail; false | cat; echo pipefail $?
( trap 'echo term trap; exit 4' TERM; kill -TERM $BASHPID; sleep 1 ); echo $?
timeout 0.2 sleep 5; echo timeout $?
timeout -s KILL 0.2 sleep 5; echo timeout $?
(ulimit -n 40; ulimit -n)
seq 100000 | head -1; echo "${PIPESTATUS[@]}"
printf '%s\n' {a..e}{1,2} | xargs -n 3 -P 1 echo
nice -n 5 bash -c 'nice'
env -i A=1 bash -c 'echo $A'

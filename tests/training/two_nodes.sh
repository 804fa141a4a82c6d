# Two machines as two network namespaces with a cable between: unshare -rnm bash two_nodes.sh PYTHON IMAGES
# A fit on both, by torchrun; the second is killed; the first ends by itself; both go on. Each step says what came of it.
mount -t tmpfs none /run && mkdir /run/netns
for node in 0 1; do ip netns add n$node; done
ip link add v0 type veth peer name v1
for node in 0 1; do
    ip link set v$node netns n$node
    ip -n n$node addr add 10.9.0.1$node/24 dev v$node
    ip -n n$node link set v$node up
    ip -n n$node link set lo up
done

start() { # NODE WORD...
    local node=$1
    shift
    ip netns exec n$node env GLOO_SOCKET_IFNAME=v$node "$python" -m torch.distributed.run --nnodes 2 --node-rank $node \
        --nproc-per-node 1 --master-addr 10.9.0.10 --master-port 29511 -m -- resnet_tl fit "$@" >>log.$node 2>&1 &
    pids[node]=$!
}

python=$1
flags=(--recipe train_everything --data.root "$2" --run run --trainer.max_epochs 4 --data.batch_size 4
    --checkpoint_every 0s --trainer.accelerator cpu --trainer.devices 1 --trainer.num_nodes 2 --trainer.strategy ddp)
for node in 0 1; do start $node "${flags[@]}"; done
until [[ -f run/checkpoints/last.ckpt ]]; do
    kill -0 "${pids[0]}" || exit 1
    sleep 0.1
done
kill -9 "${pids[1]}"
SECONDS=0
wait "${pids[0]}"
echo "first $?"
((SECONDS < 30)) && echo "in time"
wait "${pids[1]}"
for node in 0 1; do start $node --resume run; done
for node in 0 1; do
    wait "${pids[node]}"
    echo "resumed $?"
done

import torch
class IndexOrder:
    def __init__(self, length, batch_size, seed): self.length, self.batch_size, self.seed = length, batch_size, seed; self.c={}
    def perm(self, e):
        if e not in self.c: self.c={e: torch.randperm(self.length, generator=torch.Generator().manual_seed(self.seed+1000003*e)).tolist()}
        return self.c[e]
    def batch(self, step): return [self.perm(i//self.length)[i%self.length] for i in range(step*self.batch_size,(step+1)*self.batch_size)]

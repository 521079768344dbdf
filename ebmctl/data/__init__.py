from pathlib import Path
from ebmctl.data.base import *
from ebmctl.data.base import DataRequest, ImageBatch, ImageDataset
def default_root(): return Path.home()/".cache/ebmctl/data"
def open_dataset(name, request, find): return find(name)(request)
def to_float(images, generator):
    import torch
    x=images.float()/255
    return x if generator is None else x*(255/256)+torch.rand(x.shape,generator=generator,device=x.device)/256
